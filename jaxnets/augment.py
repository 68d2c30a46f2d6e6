"""Warps of small images on the device: rotation, zoom, shear, shift and elastic deformation in one bilinear read;
MixUp.

Randomness belongs to the image: the caller hands one key per image, so a draw is the same on whichever device it is
made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.config import Augmentation

NODES = 9
"""Random displacements a side of the elastic grid. They lie SMOOTHNESS apart, the outer ones beyond the border, so that
the field is as rough there as in the middle."""

SMOOTHNESS = 5 / 28
"""Standard deviation of the elastic field's Gaussian, as a share of the image's side: Simard et al. 2003 found 4 of
29."""


class Warp(NamedTuple):
    """Where each pixel of the result is read: centre + matrix @ (pixel - centre) - shift + elastic field.

    matrix (2, 2), in rows and columns; shift (2,) in pixels, the way the picture moves before it is turned and
    enlarged; nodes (NODES, NODES, 2), whose field has on each axis the RMS that the nodes have, in pixels.
    """

    matrix: jax.Array
    shift: jax.Array
    nodes: jax.Array


def identity() -> Warp:
    return Warp(jnp.eye(2), jnp.zeros(2), jnp.zeros((NODES, NODES, 2)))


def affine(
    *, degrees: jax.Array, zoom: jax.Array, shear_degrees: jax.Array, stretch: jax.Array | float = 0.0
) -> jax.Array:
    """-> matrix (2, 2) that makes the image wider and lower by exp(stretch / 2), rotates it counter-clockwise, shears
    its columns and enlarges it by `zoom`."""
    angle, slant = jnp.deg2rad(degrees), jnp.tan(jnp.deg2rad(shear_degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[cos, sin], [-sin, cos]])
    shear = jnp.array([[jnp.ones_like(slant), jnp.zeros_like(slant)], [slant, jnp.ones_like(slant)]])
    scale = jnp.exp(jnp.array([0.5, -0.5]) * stretch) / zoom
    return scale[:, None] * (turn @ shear)


def random_warp(key: jax.Array, strength: Augmentation, side: int) -> Warp:
    """A random warp for an image of `side` pixels; every strength is the half-width of a uniform draw, but elastic
    an RMS."""
    strength = strength.scaled_to(side)
    key_affine, key_elastic = jax.random.split(key)
    degrees, zoom, shear, down, right, stretch = jax.random.uniform(key_affine, (6,), minval=-1, maxval=1)
    matrix = affine(
        degrees=degrees * strength.rotation_degrees,
        zoom=jnp.exp(zoom * np.log1p(strength.zoom)),
        stretch=stretch * strength.stretch,
        shear_degrees=shear * strength.shear_degrees,
    )
    shift = strength.shift_pixels * jnp.stack([down, right])
    nodes = strength.elastic_pixels * jax.random.normal(key_elastic, (NODES, NODES, 2))
    return Warp(matrix, shift, nodes)


def spread(size: int) -> np.ndarray:
    """-> (size, NODES): how much each node moves each pixel of a line. Each row's squares sum to one, so that
    independent nodes of unit variance give every pixel unit variance."""
    places = (np.arange(NODES) - (NODES - 1) / 2) * SMOOTHNESS * size
    offsets = np.arange(size)[:, None] - (size - 1) / 2 - places
    weights = np.exp(-0.5 * (offsets / (SMOOTHNESS * size)) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def warp_image(image: jax.Array, warp: Warp) -> jax.Array:
    """image (H, W, C) float -> (H, W, C); zero outside. The identity warp gives back the same bits."""
    height, width, channels = image.shape
    along = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width))
    rows, columns = jnp.meshgrid(*along, indexing="ij")
    field = jnp.einsum("hi,ijk,wj->khw", spread(height), warp.nodes, spread(width))
    # Products and sums, not a matrix product: that would be rounded to bfloat16 or TF32 on an accelerator.
    source = [
        weights[0] * rows + weights[1] * columns - shift + elastic + (size - 1) / 2
        for weights, shift, elastic, size in zip(warp.matrix, warp.shift, field, (height, width), strict=True)
    ]
    read = lambda plane: jax.scipy.ndimage.map_coordinates(plane, source, order=1)
    return jnp.stack([read(image[..., c]) for c in range(channels)], axis=-1)


def augment(keys: jax.Array, images: jax.Array, strength: Augmentation) -> jax.Array:
    """keys (B,), images (B, H, W, C) float -> (B, H, W, C): each image through a warp of its own, if there is any."""
    if not strength.bends():
        return images
    side = max(images.shape[1:3])
    return jax.vmap(lambda key, image: warp_image(image, random_warp(key, strength, side)))(keys, images)


def mixup(keys: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Blends neighbours 2i and 2i + 1, so that no pair is cut when a batch is divided (Zhang et al. 2018, section 2).

    keys (B,), images (B, ...), targets (B, K) -> images, targets. One weight a pair, from Beta(alpha, alpha), the
    larger share to the image itself; alpha 0 leaves all as it is.
    """
    if alpha == 0:
        return images, targets
    weight = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys[::2])
    weight = jnp.repeat(jnp.maximum(weight, 1 - weight), 2)

    def blend(x: jax.Array) -> jax.Array:
        own = weight.reshape(-1, *[1] * (x.ndim - 1))
        partner = x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
        return own * x + (1 - own) * partner

    return blend(images), blend(targets)


def tta_views(count: int, strength: Augmentation, side: int) -> list[Warp]:
    """The `count` views of test-time augmentation: the identity, then the same draws from the training distribution
    always."""
    keys = jax.random.split(jax.random.key(0), max(count - 1, 1))
    return [identity(), *(random_warp(key, strength, side) for key in keys)][:count]
