from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import recipes
from jaxnets.models import MODELS, create_model
from jaxnets.models.blocks import Classifier
from jaxnets.models.functional import apply, count, merge, split

SIZES = {"deep_cnn": {"width": 8, "depth": 3}, "wide_cnn": {"width": 8, "depth": 2}}
DIRECTION = np.random.default_rng(1).normal(size=(4, 10)).astype(np.float32)
families = pytest.mark.parametrize("family", MODELS)
pytestmark = pytest.mark.usefixtures("strict_dtypes", "quick_compilation")


def tiny(family, **options):
    return create_model(family, **{"width": 8, "depth": 1} | SIZES.get(family, {}) | options)


@cache
def network(family, **options):
    """A tiny model's arrays, random as zeros and ones would hide faults, and its compiled functions."""
    graphdef, params, stats = split(nnx.eval_shape(lambda: tiny(family, **options)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0.5, 1, leaf.shape).astype(leaf.dtype) / leaf.size**0.25, params)
    stats = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype), stats)

    def loss(params, stats, images):
        logits, stats = apply(graphdef, params, stats, images, train=True)
        return (logits * DIRECTION).sum(), (logits, stats)

    evaluate = jax.jit(lambda params, stats, images: apply(graphdef, params, stats, images, train=False)[0])
    train = jax.jit(jax.grad(loss, has_aux=True))
    return SimpleNamespace(graphdef=graphdef, arrays=(params, stats), evaluate=evaluate, train=train)


def assert_same(actual, desired):
    jax.tree.map(np.testing.assert_array_equal, actual, desired)


@families
@pytest.mark.parametrize(("shape", "classes"), [((3, 8, 8, 1), 10), ((1, 28, 28, 1), 10), ((2, 32, 32, 3), 100)])
def test_images_become_logits(family, shape, classes, random_images):
    net = network(family, in_channels=shape[-1], num_classes=classes)
    logits = net.evaluate(*net.arrays, random_images(*shape))
    assert (logits.shape, logits.dtype) == ((shape[0], classes), jnp.float32)
    assert jnp.isfinite(logits).all()
    assert (jnp.ptp(logits, axis=1) > 0).all()


@families
def test_the_head_computes_logits_from_features(family, random_images):
    net, images = network(family, in_channels=1, num_classes=10), random_images(3, 8, 8, 1)
    model = merge(net.graphdef, *net.arrays)
    features = jax.jit(lambda *arrays: merge(net.graphdef, *arrays).features(images))(*net.arrays)
    assert features.shape == (3, model.num_features)
    np.testing.assert_allclose(model.head(features), net.evaluate(*net.arrays, images), rtol=1e-5, atol=1e-5)


@families
def test_evaluation_is_independent_of_the_other_images(family, random_images):
    net, images = network(family, in_channels=1, num_classes=10), random_images(3, 8, 8, 1)
    logits = net.evaluate(*net.arrays, images)
    images[1:] = np.nan
    with_nan = net.evaluate(*net.arrays, images)
    np.testing.assert_array_equal(with_nan[0], logits[0])
    assert jnp.isnan(with_nan[1:]).all()


@families
def test_default_sizes_are_multiples_of_eight(family):
    shapes = jax.eval_shape(lambda: split(create_model(family))[1])
    del shapes["head"]
    assert [leaf.shape for leaf in jax.tree.leaves(shapes) if leaf.shape[-1] % 8] == []
    logits = jax.eval_shape(lambda images: create_model(family)(images), jnp.zeros((2, 28, 28, 1)))
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)


@families
def test_every_parameter_gets_a_gradient_and_every_statistic_an_update(family, random_images):
    net = network(family)
    grads, (_, stats) = net.train(*net.arrays, random_images(4, 8, 8, 1))
    unchanged = jax.tree.map(lambda new, old: bool((new == old).all()), stats, net.arrays[1])
    without_gradient = jax.tree.map(lambda grad: not bool(grad.any()), grads)
    found = jax.tree.leaves_with_path((without_gradient, unchanged))
    assert [jax.tree_util.keystr(path) for path, leaf in found if leaf] == []


@families
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_computes_between_float32_arrays(family, dtype, random_images):
    net, images = network(family, dtype=jnp.dtype(dtype)), random_images(3, 8, 8, 1)
    with jax.numpy_dtype_promotion("standard"):
        features = jax.eval_shape(merge(net.graphdef, *net.arrays).features, images)
        trained = jax.eval_shape(partial(apply, net.graphdef, train=True), *net.arrays, images)
    assert features.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves((net.arrays, trained))} == {jnp.dtype("float32")}


@families
def test_half_precision_is_close_to_single(family, random_images):
    half, single = (network(family, in_channels=1, num_classes=10, **dtype) for dtype in ({"dtype": jnp.bfloat16}, {}))
    images = random_images(3, 8, 8, 1)
    desired = single.evaluate(*single.arrays, images)
    with jax.numpy_dtype_promotion("standard"):
        logits = half.evaluate(*single.arrays, images)
    assert 0 < jnp.abs(logits - desired).max() / jnp.abs(desired).max() < 0.1


@families
def test_two_devices_normalise_over_the_whole_batch(family, random_images):
    net, images = network(family, axis_name="data"), random_images(4, 8, 8, 1)
    step = jax.pmap(partial(apply, net.graphdef, train=True), "data", in_axes=(None, None, 0))
    logits, stats = step(*net.arrays, images.reshape(2, 2, 8, 8, 1))
    whole_logits, whole_stats = network(family).train(*net.arrays, images)[1]
    np.testing.assert_allclose(logits.reshape(4, 10), whole_logits, rtol=1e-4, atol=1e-4)
    for device in range(2):
        for mine, whole in zip(jax.tree.leaves(stats), jax.tree.leaves(whole_stats), strict=True):
            np.testing.assert_allclose(mine[device], whole, rtol=1e-4, atol=1e-5)


@families
def test_split_and_merge_are_inverse(family):
    net = network(family)
    graphdef, *arrays = split(merge(net.graphdef, *net.arrays))
    assert_same(tuple(arrays), net.arrays)
    assert_same(split(merge(graphdef, *arrays))[1:], net.arrays)
    assert count(net.arrays[0]) == sum(np.size(leaf) for leaf in jax.tree.leaves(net.arrays[0]))


@families
def test_a_new_head_leaves_the_features_unchanged(family):
    model = merge(network(family).graphdef, *network(family).arrays)
    old = split(model)[1]
    model.reset_head(3)
    new = split(model)[1]
    assert new.pop("head")["kernel"].shape == (old.pop("head")["kernel"].shape[0], 3)
    assert_same(new, old)
    assert model.head(jnp.ones((2, model.num_features))).shape == (2, 3)


def test_apply_agrees_with_plain_nnx(random_images):
    images, model = random_images(2, 8, 8, 1), tiny("wide_cnn")
    start = split(model)
    model.train()
    logits, stats = apply(*start, images, train=True)
    np.testing.assert_array_equal(model(images), logits)
    trained = split(model)
    assert_same(trained[1:], (start[1], stats))
    model.eval()
    logits, unchanged = apply(*trained, images, train=False)
    np.testing.assert_array_equal(model(images), logits)
    assert_same(unchanged, stats)
    assert_same(split(model)[1:], trained[1:])


def test_recipes_know_all_families():
    assert tuple(MODELS) == recipes.FAMILIES
    for name in recipes.PRESETS:
        for recipe in recipes.preset(name).recipes:
            nnx.eval_shape(lambda recipe=recipe: create_model(recipe.family, **recipe.sizes))


@families
def test_images_of_one_pixel_are_accepted(family):
    logits = jax.eval_shape(lambda images: create_model(family)(images), jnp.zeros((2, 1, 1, 1)))
    assert logits.shape == (2, 10)


def test_an_unknown_family_lists_those_that_exist():
    with pytest.raises(ValueError, match=f"unknown model 'vgg'.*{', '.join(MODELS)}"):
        create_model("vgg")


def test_weights_depend_on_the_seed():
    first, again, other = (tiny("wide_cnn", rngs=nnx.Rngs(seed)).stem.conv.kernel[...] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@families
def test_inputs_that_are_not_float_images_raise(family, random_images):
    net, images = network(family, in_channels=1, num_classes=10), random_images(3, 8, 8, 1)
    for wrong in ((images * 255).astype(np.uint8), images > 0, images[..., 0], np.repeat(images, 3, axis=-1)):
        with pytest.raises(TypeError, match=r"give floats \(B, H, W, 1\), images in \[0, 1\]"):
            net.evaluate(*net.arrays, wrong)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"depth": -1}, {"num_classes": 0}])
def test_sizes_start_at_one(sizes):
    with pytest.raises(ValueError, match="give at least 1"):
        create_model("resnet", **sizes)


def test_a_family_must_define_its_features():
    class NoFeatures(Classifier):
        pass

    with pytest.raises(TypeError, match="abstract method"):
        NoFeatures()
