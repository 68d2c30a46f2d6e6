import itertools
from functools import partial

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxnets import augment
from scratch.deform import (
    NODES,
    SMOOTHNESS,
    DeformConfig,
    Warp,
    affine,
    deform,
    random_warp,
    source_of,
    warp_images,
)

STRONG = DeformConfig(rotation_degrees=25, zoom=0.3, shear_degrees=15, shift_pixels=4, elastic_pixels=1.5)
NO_CHANGE = {"degrees": 0.0, "zoom": 1.0, "shear_degrees": 0.0}
SIZES = [(8, 8), (28, 28), (9, 14), (11, 6)]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def make_warp(count, *, shift=(0.0, 0.0), dtype=np.float32, **changed):
    options = {name: np.full(count, value, dtype) for name, value in (NO_CHANGE | changed).items()}
    shift = np.broadcast_to(np.array(shift, dtype), (count, 2))
    return Warp(affine(**options), shift, np.zeros((count, 2, NODES, NODES), dtype))


def large_warp(count, dtype):
    rng = np.random.default_rng(1)
    matrix, shift = np.eye(2) + rng.normal(0, 0.2, (count, 2, 2)), rng.normal(0, 2, (count, 2))
    return Warp(*(array.astype(dtype) for array in (matrix, shift, rng.normal(0, 1, (count, 2, NODES, NODES)))))


def expected_source(matrix, shift, nodes, size):
    """Where one image is read by the formula in the docstrings: (2, H, W)."""
    pixels = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)
    size = np.array(size)
    centre = (size - 1) / 2
    field, power = np.zeros(pixels.shape), np.zeros(pixels.shape)
    for node in itertools.product(range(NODES), repeat=2):
        position = centre + (np.array(node) - (NODES - 1) / 2) * SMOOTHNESS * size
        bump = np.exp(-0.5 * (((pixels - position) / (SMOOTHNESS * size)) ** 2).sum(-1, keepdims=True))
        field, power = field + bump * nodes[:, *node], power + bump**2
    source = centre + (pixels - centre) @ matrix.T - shift + field / np.sqrt(power)
    return np.moveaxis(source, -1, 0)


@both_dtypes
@pytest.mark.parametrize("size", SIZES)
def test_a_warp_reads_where_the_formula_says(size, dtype, random_images):
    images, warp = random_images(5, *size).astype(dtype), large_warp(5, dtype)
    read = partial(ndimage.map_coordinates, order=1, mode="grid-constant")
    expected = [
        read(image.astype(np.float64), expected_source(*warp_of_image, size))
        for image, *warp_of_image in zip(images, *warp, strict=True)
    ]
    found = warp_images(images, warp)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-12 if dtype == np.float64 else 2e-5)


def test_affine_matrices_equal_those_of_jaxnets():
    rng = np.random.default_rng(0)
    options = {
        "degrees": rng.uniform(-180, 180, 20).astype(np.float32),
        "zoom": rng.uniform(0.5, 2, 20).astype(np.float32),
        "shear_degrees": rng.uniform(-60, 60, 20).astype(np.float32),
    }
    expected = jax.vmap(lambda options: augment.affine(**options))(options)
    np.testing.assert_allclose(affine(**options), expected, atol=1e-5)
    assert (NODES, SMOOTHNESS) == (augment.NODES, augment.SMOOTHNESS)


def test_strengths_in_pixels_scale_with_the_image():
    doubled = DeformConfig(rotation_degrees=25, zoom=0.3, shear_degrees=15, shift_pixels=8, elastic_pixels=3)
    assert STRONG.scaled_to(56) == doubled
    assert STRONG.scaled_to(28) == STRONG


@both_dtypes
@pytest.mark.parametrize("size", SIZES)
def test_the_identity_keeps_every_bit(size, dtype, random_images):
    images = random_images(6, *size).astype(dtype)
    np.testing.assert_array_equal(warp_images(images, make_warp(6, dtype=dtype)), images)
    np.testing.assert_array_equal(deform(np.random.default_rng(0), images, DeformConfig()), images)


def test_random_warps_are_uniform_up_to_their_strength():
    matrix, shift, _ = random_warp(np.random.default_rng(0), 4000, STRONG)
    angle = np.arctan2(matrix[:, 0, 1], matrix[:, 1, 1])
    zoom = np.linalg.det(matrix) ** -0.5
    slant = np.arctan(zoom * (np.sin(angle) * matrix[:, 0, 0] + np.cos(angle) * matrix[:, 1, 0]))
    draws = np.stack([np.rad2deg(angle) / 25, np.log(zoom) / np.log(1.3), np.rad2deg(slant) / 15, *shift.T / 4])
    quantiles = np.quantile(draws, [0, 0.25, 0.5, 0.75, 1], axis=1).T
    np.testing.assert_allclose(quantiles, [[-1, -0.5, 0, 0.5, 1]] * 5, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(draws), np.eye(5), atol=0.1)


def test_elastic_pixels_are_the_rms_of_the_field_at_the_border_too():
    warp = random_warp(np.random.default_rng(0), 1500, DeformConfig(elastic_pixels=0.7))
    field = source_of(warp, 28, 20) - np.mgrid[:28, :20]
    rms = np.sqrt(np.square(field).mean(axis=0)) / 0.7
    border = np.ones((28, 20), bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_allclose(rms.mean(axis=(1, 2)), 1, atol=0.03)
    np.testing.assert_allclose(rms[:, border].mean(axis=1), 1, atol=0.03)
    np.testing.assert_allclose(field.mean(), 0, atol=0.03)
    rows, columns = field.reshape(1500, 2, -1).swapaxes(0, 1)
    np.testing.assert_allclose(np.mean(rows * columns), 0, atol=0.03)


def test_random_warps_are_float32_and_depend_on_their_generator():
    draw = lambda seed: random_warp(np.random.default_rng(seed), 3, STRONG)
    assert [array.dtype for array in draw(0)] == [np.float32] * 3
    assert [array.shape for array in draw(0)] == [(3, 2, 2), (3, 2), (3, 2, NODES, NODES)]
    for array, again, other in zip(draw(0), draw(0), draw(1), strict=True):
        np.testing.assert_array_equal(array, again)
        assert (array != other).all()
        assert len(np.unique(array, axis=0)) == 3


def test_inputs_are_not_changed(random_images):
    images, warp = random_images(4, 9, 8), random_warp(np.random.default_rng(0), 4, STRONG)
    for array in (images, *warp):
        array.flags.writeable = False
    moved = warp_images(images, warp)
    assert not np.shares_memory(moved, images)
    assert moved.flags.writeable
    assert not np.shares_memory(warp_images(images, make_warp(4)), images)


def test_an_image_depends_only_on_its_own_warp(random_images):
    images, warp = random_images(6, 12, 10), random_warp(np.random.default_rng(0), 6, STRONG)
    moved = warp_images(images, warp)
    others = random_warp(np.random.default_rng(1), 6, STRONG)
    for index in range(6):
        own = np.arange(6) == index
        only_own = np.where(own[:, None, None], images, np.nan)
        mixed = Warp(*(np.where(own.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(warp, others, strict=True)))
        np.testing.assert_array_equal(warp_images(only_own, mixed)[index], moved[index])
        alone = warp_images(images[own], Warp(*(array[own] for array in warp)))
        np.testing.assert_allclose(alone[0], moved[index], atol=1e-4)
