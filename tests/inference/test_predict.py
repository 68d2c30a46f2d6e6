import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets.augment import identity
from jaxnets.config import ModelRecipe
from jaxnets.errors import DivergedError
from jaxnets.inference.predict import make_predict
from jaxnets.inference.tta import tta
from jaxnets.models.functional import split
from jaxnets.runs import Run, RunConfig, build

pytestmark = pytest.mark.usefixtures("quick_compilation")
DEVICES = jax.devices()
IMAGES = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def run(quick_compilation):
    """A model with random parameters and statistics."""
    config = RunConfig(
        recipe=ModelRecipe(family="wide_cnn", sizes={"width": 4, "depth": 1}),
        seed=0,
        precision="float32",
        image_shape=(8, 8, 1),
        num_classes=10,
        data="random",
        data_sha256="",
    )
    graphdef, params, stats = split(nnx.eval_shape(lambda: build(config)))
    rng = np.random.default_rng(1)
    draw = lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
    return Run(config, graphdef, jax.tree.map(draw, params), jax.tree.map(draw, stats))


@pytest.fixture(scope="module")
def desired(run):
    """Predictions of the model for all images at once, without a view."""
    logits = run.model()(IMAGES.astype(np.float32) / 255)
    return np.asarray(jax.nn.log_softmax(logits))


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (1, 4), (1, 11), (2, 4), (2, 8)])
def test_every_image_is_predicted_for_any_batch_size(run, desired, devices, batch_size):
    predict = make_predict(run.graphdef, DEVICES[:devices], batch_size=batch_size)
    log_probs = predict(run.params, run.stats, IMAGES)
    assert (log_probs.shape, log_probs.dtype) == ((11, 10), np.float32)
    np.testing.assert_allclose(log_probs, desired, rtol=1e-4, atol=1e-5)


def test_the_identity_view_changes_nothing(run):
    predict = make_predict(run.graphdef, DEVICES, batch_size=8)
    plain = predict(run.params, run.stats, IMAGES)
    np.testing.assert_array_equal(predict(run.params, run.stats, IMAGES, identity()), plain)
    shifted = identity()._replace(shift=np.ones(2, np.float32))
    assert (predict(run.params, run.stats, IMAGES, shifted) != plain).any()


@pytest.mark.parametrize("views", [1, 3])
def test_the_first_view_is_the_image_itself(run, views):
    predictions = tta(run, {"valid": IMAGES[:3], "test": IMAGES}, views=views, devices=DEVICES[:1])
    assert {name: log_probs.shape for name, log_probs in predictions.items()} == {
        "valid": (views, 3, 10),
        "test": (views, 11, 10),
    }
    plain = make_predict(run.graphdef, DEVICES[:1])(run.params, run.stats, IMAGES)
    np.testing.assert_array_equal(predictions["test"][0], plain)
    np.testing.assert_allclose(predictions["valid"], predictions["test"][:, :3], rtol=1e-6, atol=1e-6)
    assert len(np.unique(predictions["test"][:, 0, 0])) == views


def test_predictions_that_are_not_finite_raise(run):
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), run.params)
    with pytest.raises(DivergedError, match="wide_cnn, seed 0: not all predictions are finite"):
        tta(run._replace(params=params), {"test": IMAGES[:3]}, views=1, devices=DEVICES[:1])
