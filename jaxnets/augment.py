"""Augmentation of small images on the device: one random warp per image, read bilinearly once, and MixUp.

A warp combines rotation, zoom, stretch, shear, shift, elastic deformation and mirroring. Each image has a key of its
own, so its random numbers are the same on whichever device they are drawn.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.config import WarpConfig

NODES = 9
"""Nodes of the elastic grid along each axis, with a random displacement each. They lie SMOOTHNESS apart, the outer ones
beyond the border, so that the field is as rough there as in the middle."""

SMOOTHNESS = 5 / 28
"""Standard deviation of the elastic field's Gaussian, as a fraction of the image's side; Simard et al. 2003 found 4 of
29 pixels best."""


class Warp(NamedTuple):
    """Where each pixel of the result is read: centre + matrix @ (pixel - centre) - shift + elastic field."""

    matrix: jax.Array
    """(2, 2), acting on (row, column)."""
    shift: jax.Array
    """(2,) in pixels, down and right: how far the image moves before it is rotated and enlarged."""
    nodes: jax.Array
    """(NODES, NODES, 2) displacements in pixels; on each axis the field's RMS is that of the nodes."""


def identity() -> Warp:
    """Return the warp that changes nothing."""
    return Warp(jnp.eye(2), jnp.zeros(2), jnp.zeros((NODES, NODES, 2)))


def affine(
    *, degrees: jax.Array, zoom: jax.Array, shear_degrees: jax.Array, stretch: jax.Array | float = 0.0
) -> jax.Array:
    """Return the matrix (2, 2) of a warp that stretches the image, rotates it counter-clockwise, shears its columns and
    enlarges it by the factor `zoom`. Stretching makes it wider and lower by exp(stretch / 2)."""
    angle, slant = jnp.deg2rad(degrees), jnp.tan(jnp.deg2rad(shear_degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, sin], [-sin, cos]])
    shear = jnp.array([[jnp.ones_like(slant), jnp.zeros_like(slant)], [slant, jnp.ones_like(slant)]])
    scale = jnp.exp(jnp.array([0.5, -0.5]) * stretch) / zoom
    return scale[:, None] * (rotation @ shear)


def random_warp(key: jax.Array, warping: WarpConfig, side: int) -> Warp:
    """Return a random warp for an image of `side` pixels. The image's larger side counts if it is not square."""
    warping = warping.scaled_to(side)
    key_affine, key_elastic = jax.random.split(key)
    degrees, zoom, shear, down, right, stretch = jax.random.uniform(key_affine, (6,), minval=-1, maxval=1)
    matrix = affine(
        degrees=degrees * warping.rotation_degrees,
        zoom=jnp.exp(zoom * np.log1p(warping.zoom)),
        stretch=stretch * warping.stretch,
        shear_degrees=shear * warping.shear_degrees,
    )
    if warping.flip:
        flipped = jax.random.bernoulli(jax.random.fold_in(key, 1), warping.flip)
        matrix *= jnp.where(flipped, jnp.array([[1.0], [-1.0]]), 1)  # the columns are read from right to left
    shift = warping.shift_pixels * jnp.stack([down, right])
    nodes = warping.elastic_pixels * jax.random.normal(key_elastic, (NODES, NODES, 2))
    return Warp(matrix, shift, nodes)


def node_weights(size: int) -> np.ndarray:
    """Return (size, NODES) float32: how much each node displaces each pixel along one axis.

    The squares of each row sum to one, so independent nodes of unit variance give every pixel unit variance.
    """
    nodes = (np.arange(NODES) - (NODES - 1) / 2) * SMOOTHNESS * size
    offsets = np.arange(size)[:, None] - (size - 1) / 2 - nodes
    weights = np.exp(-0.5 * (offsets / (SMOOTHNESS * size)) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def warp_image(image: jax.Array, warp: Warp) -> jax.Array:
    """image (H, W, C) float -> (H, W, C), zero outside the image. The identity warp returns bitwise equal pixels."""
    height, width, channels = image.shape
    axes = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width))
    rows, columns = jnp.meshgrid(*axes, indexing="ij")
    field = jnp.einsum("hi,ijk,wj->khw", node_weights(height), warp.nodes, node_weights(width))
    # Products and sums, as an accelerator rounds the factors of a matrix product to bfloat16 or TF32.
    source = [
        weights[0] * rows + weights[1] * columns - shift + elastic + (size - 1) / 2
        for weights, shift, elastic, size in zip(warp.matrix, warp.shift, field, (height, width), strict=True)
    ]
    read = jax.scipy.ndimage.map_coordinates
    return jnp.stack([read(image[..., c], source, order=1) for c in range(channels)], axis=-1)


def augment(keys: jax.Array, images: jax.Array, warping: WarpConfig) -> jax.Array:
    """Warp each image at random. keys (B,), images (B, H, W, C) float -> (B, H, W, C)."""
    if not warping.has_warp():
        return images
    side = max(images.shape[1:3])
    return jax.vmap(lambda key, image: warp_image(image, random_warp(key, warping, side)))(keys, images)


def mixup(keys: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Blend each image with its neighbour, 2i with 2i + 1, and their targets alike (Zhang et al. 2018, section 2).

    keys (B,), images (B, ...), targets (B, K) -> images, targets. Each pair draws one weight from Beta(alpha, alpha);
    an image keeps the larger part of itself. Pairs of neighbours lie on one device however a batch is divided. With
    alpha 0 nothing changes.
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


def tta_views(count: int, warping: WarpConfig, side: int) -> list[Warp]:
    """Return `count` views for test-time augmentation: the identity, then random warps, the same ones at every call."""
    keys = jax.random.split(jax.random.key(0), max(count - 1, 1))
    return [identity(), *(random_warp(key, warping, side) for key in keys)][:count]
