import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import block_diag

from jaxnets.augment import NODES, SMOOTHNESS, affine, augment, identity, mixup, random_warp, tta_views, warp_image
from jaxnets.config import NO_WARP, AugmentConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")
STRONG = AugmentConfig(rotation_degrees=25, zoom=0.3, shear_degrees=15, shift_pixels=4, elastic_pixels=1.5)
NO_CHANGE = {"degrees": 0.0, "zoom": 1.0, "stretch": 0.0, "shear_degrees": 0.0}
augmented, warped = jax.jit(augment, static_argnums=2), jax.jit(warp_image)


def split_keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def draw_many(count, strength, side):
    return jax.jit(jax.vmap(partial(random_warp, warping=strength, side=side)))(split_keys(count))


def make_warp(*, shift=(0.0, 0.0), **changed):
    return identity()._replace(matrix=affine(**NO_CHANGE | changed), shift=jnp.asarray(shift))


@pytest.mark.parametrize("shape", [(4, 8, 8, 1), (4, 28, 28, 1), (4, 7, 9, 3)])
def test_without_warps_images_are_unchanged(shape, random_images):
    images = random_images(*shape)
    np.testing.assert_array_equal(augmented(split_keys(4), images, NO_WARP), images)


def test_the_identity_returns_bitwise_equal_images(random_images):
    image = random_images(28, 28, 1)
    np.testing.assert_array_equal(warped(image, identity()), image)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 14, 3)])
def test_a_warp_reads_where_the_formula_says(shape, random_images):
    image = random_images(1, *shape)[0]
    rng = np.random.default_rng(0)
    matrix, shift = np.eye(2) + rng.normal(0, 0.2, (2, 2)), rng.normal(0, 2, 2)
    nodes = rng.normal(0, 1, (NODES, NODES, 2))

    size = np.array(shape[:2])
    pixels = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1)
    centre = (size - 1) / 2
    field, power = np.zeros(pixels.shape), np.zeros(pixels.shape)
    for node in itertools.product(range(NODES), repeat=2):
        position = centre + (np.array(node) - (NODES - 1) / 2) * SMOOTHNESS * size
        bump = np.exp(-0.5 * (((pixels - position) / (SMOOTHNESS * size)) ** 2).sum(-1, keepdims=True))
        field, power = field + bump * nodes[node], power + bump**2
    source = centre + (pixels - centre) @ matrix.T - shift + field / np.sqrt(power)

    read = partial(ndimage.map_coordinates, coordinates=np.moveaxis(source, -1, 0), order=1, mode="grid-constant")
    expected = np.stack([read(image[..., channel]) for channel in range(shape[-1])], axis=-1)
    warp = identity()._replace(matrix=matrix.astype("f4"), shift=shift.astype("f4"), nodes=nodes.astype("f4"))
    np.testing.assert_allclose(warped(image, warp), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("changed", "before", "after"),
    [
        ({"shift": (1.0, 2.0)}, (4, 4), (5, 6)),  # down and right
        ({"degrees": 90.0}, (4, 7), (1, 4)),  # counter-clockwise: from the right to the top
        ({"degrees": -90.0}, (4, 7), (7, 4)),
        ({"zoom": 3.0}, (4, 5), (4, 7)),  # enlarged: farther from the centre
        ({"zoom": 0.5}, (8, 4), (6, 4)),
        ({"stretch": 2 * np.log(2.0)}, (4, 5), (4, 6)),  # twice as wide,
        ({"stretch": 2 * np.log(2.0)}, (8, 4), (6, 4)),  # and half as high
        ({"shear_degrees": 45.0}, (2, 4), (2, 6)),  # a column leans to the right at its top,
        ({"shear_degrees": 45.0}, (6, 4), (6, 2)),  # to the left at its bottom,
        ({"shear_degrees": 45.0}, (4, 6), (4, 6)),  # and rows stay horizontal
        ({"degrees": 90.0, "shift": (0.0, 1.0)}, (4, 6), (1, 4)),  # the shift comes before the rotation
        ({"degrees": 90.0, "shear_degrees": 45.0}, (4, 6), (2, 6)),  # and the shear after it
    ],
)
def test_bright_pixels_move_in_the_documented_direction(changed, before, after):
    image = np.zeros((9, 9, 1), np.float32)
    image[before] = 1
    moved = np.asarray(warped(image, make_warp(**changed)))
    assert np.unravel_index(moved.argmax(), moved.shape)[:2] == after
    np.testing.assert_allclose(moved[after], 1, atol=1e-5)


def test_random_warps_are_uniform_up_to_their_strength():
    matrix, shift, _ = jax.device_get(draw_many(4000, STRONG, 56))
    angle = np.arctan2(matrix[:, 0, 1], matrix[:, 1, 1])
    zoom = np.linalg.det(matrix) ** -0.5
    slant = np.arctan(zoom * (np.sin(angle) * matrix[:, 0, 0] + np.cos(angle) * matrix[:, 1, 0]))
    draws = np.stack([np.rad2deg(angle) / 25, np.log(zoom) / np.log(1.3), np.rad2deg(slant) / 15, *shift.T / 8])
    quantiles = np.quantile(draws, [0, 0.25, 0.5, 0.75, 1], axis=1).T
    np.testing.assert_allclose(quantiles, [[-1, -0.5, 0, 0.5, 1]] * 5, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(draws), np.eye(5), atol=0.1)


def test_stretch_changes_the_aspect_at_constant_area():
    matrix = draw_many(4000, replace(NO_WARP, stretch=0.4), 28).matrix
    np.testing.assert_allclose(np.linalg.det(matrix), 1, rtol=1e-5)
    np.testing.assert_array_equal(matrix[:, [0, 1], [1, 0]], 0)
    draws = np.log(matrix[:, 0, 0] / matrix[:, 1, 1]) / 0.4
    np.testing.assert_allclose(np.quantile(draws, [0, 0.25, 0.5, 0.75, 1]), [-1, -0.5, 0, 0.5, 1], atol=0.05)


def test_images_are_mirrored_with_the_given_probability(random_images):
    images, keys = random_images(400, 8, 8, 1), split_keys(400)
    mirrored = images[:, :, ::-1]
    np.testing.assert_allclose(augmented(keys, images, replace(NO_WARP, flip=1.0)), mirrored, atol=1e-6)
    half = augmented(keys, images, replace(NO_WARP, flip=0.5))
    changed = np.abs(half - images).max(axis=(1, 2, 3)) > 1e-6
    np.testing.assert_allclose(half[changed], mirrored[changed], atol=1e-6)
    assert 150 < changed.sum() < 250  # five standard deviations


def test_elastic_pixels_are_the_rms_of_the_field_at_the_border_too():
    side, strength = 56, replace(NO_WARP, elastic_pixels=0.7)
    # At half size no pixel is read from outside, and the values of the ramps are the points that were read.
    ramps = np.stack(np.mgrid[:side, :side], axis=-1).astype(np.float32)
    half = identity()._replace(matrix=0.5 * jnp.eye(2))
    read = lambda nodes: warp_image(jnp.asarray(ramps), half._replace(nodes=nodes)) - warp_image(ramps, half)
    fields = jax.jit(jax.vmap(read))(draw_many(1500, strength, side).nodes)
    rms = np.sqrt(np.square(fields).mean(axis=0)) / (0.7 * side / 28)
    border = np.ones((side, side), bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_allclose(rms.mean(axis=(0, 1)), 1, atol=0.03)
    np.testing.assert_allclose(rms[border].mean(), 1, atol=0.03)
    np.testing.assert_allclose(np.mean(fields), 0, atol=0.03)


def test_an_image_depends_only_on_its_own_key(random_images):
    images, keys = random_images(6, 28, 28, 1), split_keys(6)
    order = np.array([3, 1, 0, 5, 2, 4])
    changed = augmented(keys, images, STRONG)
    np.testing.assert_allclose(augmented(keys[order], images[order], STRONG), changed[order], atol=1e-4)
    only_own = np.where(np.arange(6)[:, None, None, None] == 2, images, np.nan)
    other_keys = split_keys(6, seed=1).at[2].set(keys[2])
    np.testing.assert_array_equal(augmented(other_keys, only_own, STRONG)[2], changed[2])
    assert (jnp.abs(augmented(split_keys(6, seed=1), images, STRONG) - changed).max(axis=(1, 2, 3)) > 0.1).all()


def test_jit_and_vmap_agree_with_one_image_at_a_time(random_images):
    images, keys = random_images(3, 28, 28, 1), split_keys(3)
    singly = [warp_image(image, random_warp(key, STRONG, 28)) for key, image in zip(keys, images, strict=True)]
    np.testing.assert_allclose(augmented(keys, images, STRONG), singly, atol=1e-4)


def test_mixup_with_alpha_zero_changes_nothing(random_images):
    images, targets = random_images(4, 8, 8, 1), np.eye(4, dtype=np.float32)
    mixed = mixup(split_keys(4), images, targets, alpha=0.0)
    np.testing.assert_array_equal(mixed[0], images)
    np.testing.assert_array_equal(mixed[1], targets)


def test_mixup_blends_each_pair_of_neighbours_by_its_own_weight(random_images):
    # With rows of the unit matrix as images, row i of the result has the weight of every image in the i-th.
    unit, keys = np.eye(64, dtype=np.float32), split_keys(64)
    targets, mix = random_images(64, 10) / 5, jax.jit(partial(mixup, alpha=0.4))
    images, mixed = mix(keys, unit.reshape(64, 8, 8, 1), targets)
    weights = np.asarray(images).reshape(64, 64)
    own = np.diag(weights)
    assert ((own >= 0.5) & (own <= 1)).all()
    assert len(np.unique(own)) > 16
    blocks = [np.array([[weight, 1 - weight], [1 - weight, weight]]) for weight in own[::2]]
    np.testing.assert_allclose(weights, block_diag(*blocks), atol=1e-6)
    np.testing.assert_allclose(mixed, weights @ targets, atol=1e-6)
    pair_sums = lambda rows: np.asarray(rows).reshape(32, 20).sum(axis=1)
    np.testing.assert_allclose(pair_sums(mixed), pair_sums(targets), rtol=1e-5)

    # A pair may lie anywhere in the batch, on any device.
    rolled = mix(jnp.roll(keys, 6), unit.reshape(64, 8, 8, 1), np.roll(targets, 6, axis=0))
    np.testing.assert_allclose(np.diag(rolled[0].reshape(64, 64)), np.roll(own, 6), atol=1e-6)
    np.testing.assert_allclose(rolled[1], np.roll(mixed, 6, axis=0), atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 15])
def test_tta_views_are_the_identity_and_the_same_random_warps_at_every_call(count):
    views, again = tta_views(count, STRONG, 28), tta_views(count, STRONG, 28)
    assert len(views) == count
    jax.tree.map(np.testing.assert_array_equal, views, again)
    jax.tree.map(np.testing.assert_array_equal, views[0], identity())
    assert len({view.shift.tobytes() for view in map(jax.device_get, views)}) == count


def test_strengths_in_pixels_scale_with_the_image():
    doubled = replace(STRONG, shift_pixels=8.0, elastic_pixels=3.0)
    assert STRONG.scaled_to(56) == doubled
    assert STRONG.scaled_to(28) == STRONG
