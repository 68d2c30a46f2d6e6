"""New handwriting from old: each picture turned, zoomed, sheared, shifted and bent like rubber, in one bilinear read.

A batch of pictures at a time and no loop over them: in batches of 128 some 15 microseconds a picture of 28 x 28, on one
core.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

NODES = 9
SMOOTHNESS = 5 / 28
"""The rubber is pulled at NODES x NODES places, SMOOTHNESS of the picture's side apart, the outer ones beyond the
border; each pull reaches about as far, as a Gaussian. Simard et al. (2003, section 2) found 4 pixels of 29 best."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much at most, to either side, each drawn evenly; but `elastic_pixels` is the bending's RMS on each axis."""

    rotation_degrees: float = 0.0
    zoom: float = 0.0
    shear_degrees: float = 0.0
    shift_pixels: float = 0.0
    elastic_pixels: float = 0.0

    def scaled_to(self, side: int) -> "Strength":
        """The same warps for pictures of `side` pixels, where these are meant for 28."""
        shift, elastic = self.shift_pixels * side / 28, self.elastic_pixels * side / 28
        return replace(self, shift_pixels=shift, elastic_pixels=elastic)


class Warp(NamedTuple):
    """Where each pixel of B results is read: centre + matrix @ (pixel - centre) - shift + bending."""

    matrix: np.ndarray  # (B, 2, 2), in rows and columns
    shift: np.ndarray  # (B, 2) in pixels, down and right, before the picture is turned and zoomed
    nodes: np.ndarray  # (B, 2, NODES, NODES) in pixels, the pulls along rows and along columns


def random_warp(rng: np.random.Generator, count: int, strength: Strength) -> Warp:
    """Random warps for `count` pictures, float32."""
    degrees, zoom, shear, down, right = rng.uniform(-1, 1, (5, count)).astype(np.float32)
    matrix = affine(
        degrees=degrees * strength.rotation_degrees,
        zoom=np.exp(zoom * math.log1p(strength.zoom)),  # as often 1 / 1.1 as 1.1
        shear_degrees=shear * strength.shear_degrees,
    )
    nodes = rng.standard_normal((count, 2, NODES, NODES), dtype=np.float32)
    return Warp(matrix, strength.shift_pixels * np.stack([down, right], axis=1), strength.elastic_pixels * nodes)


def affine(*, degrees: np.ndarray, zoom: np.ndarray, shear_degrees: np.ndarray) -> np.ndarray:
    """Three times (B,) -> matrix (B, 2, 2) that turns counter-clockwise, enlarges by `zoom` and slants columns."""
    angle, slant = np.deg2rad(degrees), np.tan(np.deg2rad(shear_degrees))
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    rows = np.stack([cos + sin * slant, sin], axis=-1), np.stack([cos * slant - sin, cos], axis=-1)
    return np.stack(rows, axis=-2)


def spread(size: int) -> np.ndarray:
    """-> (size, NODES): how far each node moves each pixel of a line. The squares of a row sum to one: so the field of
    independent nodes of unit variance has unit variance everywhere."""
    places = (np.arange(NODES) - (NODES - 1) / 2) * SMOOTHNESS * size
    offsets = np.arange(size)[:, None] - (size - 1) / 2 - places
    weights = np.exp(-0.5 * (offsets / (SMOOTHNESS * size)) ** 2)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def source_of(warp: Warp, height: int, width: int) -> np.ndarray:
    """-> (B, 2, H, W): the row and the column at which each pixel of the result is read."""
    across, down = (spread(size).astype(warp.nodes.dtype) for size in (width, height))
    source = down @ warp.nodes @ across.T
    rows, columns = (np.arange(size, dtype=source.dtype) - (size - 1) / 2 for size in (height, width))
    centre = np.array([height - 1, width - 1], source.dtype) / 2
    source += (warp.matrix[:, :, :1] * rows + (centre - warp.shift)[:, :, None])[:, :, :, None]
    source += (warp.matrix[:, :, 1:] * columns)[:, :, None, :]
    return source


def read_bilinear(images: np.ndarray, source: np.ndarray) -> np.ndarray:
    """images (B, H, W), source (B, 2, H', W') rows and columns -> (B, H', W'); zero outside. `source` is used up.

    Between the pixels a, b, c, d of a square the value goes evenly: a + v (b - a) along the columns, then the rows.
    """
    count, height, width = images.shape
    # A border of zeros, wide enough for the lower right neighbour of the last place.
    padded = np.zeros((count, height + 3, width + 3), images.dtype)
    padded[:, 1:-2, 1:-2] = images
    source += 1
    for axis, size in enumerate((height, width)):
        np.clip(source[:, axis], 0, size + 1, out=source[:, axis])
    corner = source.astype(np.intp)
    source -= corner
    along_rows, along_columns = source[:, 0], source[:, 1]
    place = corner[:, 0] * (width + 3) + corner[:, 1]
    place += (np.arange(count) * (height + 3) * (width + 3))[:, None, None]
    a, b, c, d = (np.take(padded, place + step, mode="clip") for step in (0, 1, width + 3, width + 4))
    b -= a
    b *= along_columns
    a += b
    d -= c
    d *= along_columns
    c += d
    c -= a
    c *= along_rows
    a += c
    return a


def warp_images(images: np.ndarray, warp: Warp) -> np.ndarray:
    """images (B, H, W) float, each through its own of B warps -> (B, H, W)."""
    return read_bilinear(images, source_of(warp, *images.shape[1:]))


def deform(rng: np.random.Generator, images: np.ndarray, strength: Strength) -> np.ndarray:
    """images (B, H, W) float32 or float64, zero where there is no ink -> (B, H, W): each through a warp of its own."""
    return warp_images(images, random_warp(rng, len(images), strength))
