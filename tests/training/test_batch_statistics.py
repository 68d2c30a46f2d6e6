import jax
import numpy as np
import pytest

from jaxnets.models.conv import convolve
from jaxnets.models.functional import split
from jaxnets.runs import build, open_run
from jaxnets.training.batch_statistics import reestimate
from jaxnets.training.fit import Validation, fit

pytestmark = pytest.mark.usefixtures("quick_compilation")


def first(tree):
    """The subtree of the first layer with batch norm."""
    return tree["stem"]


def test_statistics_are_the_mean_of_every_full_batchs_moments(tiny_config, draw_examples):
    graphdef, params, stats = split(build(tiny_config(), axis_name="data"))
    images = draw_examples(44).images
    found = first(reestimate(graphdef, params, stats, images, jax.devices()[:2], batch_size=8))["norm"]
    maps = convolve(images[:40].astype(np.float32) / 255, first(params)["conv"]["kernel"], padding="VALID")
    batches = np.asarray(maps, np.float64).reshape(5, -1, maps.shape[-1])
    np.testing.assert_allclose(found["mean"], batches.mean(axis=1).mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], batches.var(axis=1).mean(axis=0), rtol=1e-4, atol=1e-6)


def test_a_trained_model_has_these_statistics(tiny_config, draw_examples, tmp_path):
    config, examples = tiny_config(epochs=1), draw_examples(24)
    valid = Validation(examples.images[:6], examples.targets[:6].argmax(axis=1))
    fit(tmp_path, config, examples, valid, jax.devices()[:2])
    run = open_run(tmp_path)
    graphdef, _, _ = split(build(config, axis_name="data"))
    expected = reestimate(graphdef, run.params, run.stats, examples.images, jax.devices()[:1], batch_size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), run.stats, expected)
