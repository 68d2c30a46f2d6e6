import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets.config import NO_WARP
from jaxnets.devices import replicate
from jaxnets.models import MODELS
from jaxnets.models.blocks import ConvNorm, head
from jaxnets.runs import open_run
from jaxnets.training.fit import Validation, fit
from jaxnets.training.loop import TrainLoop

pytestmark = pytest.mark.usefixtures("quick_compilation")


class OneLayer(nnx.Module):
    """A family as a user would add it."""

    def __init__(self, *, width=4, depth=1, in_channels=1, num_classes=10, dtype=None, axis_name=None, rngs):
        self.layer = ConvNorm(in_channels, width, 1, dtype=dtype, axis_name=axis_name, rngs=rngs)
        self.head = head(width, num_classes, rngs=rngs)

    def __call__(self, images):
        return self.head(self.layer(images).mean(axis=(1, 2)))


def test_a_new_family_needs_an_entry_in_models_only(tmp_path, monkeypatch, tiny_config, draw_examples):
    monkeypatch.setitem(MODELS, "one_layer", OneLayer)
    config, examples = tiny_config("one_layer", epochs=1, augmentation=NO_WARP), draw_examples(24)
    assert fit(tmp_path, config, examples, Validation(examples.images, np.zeros(24)), jax.devices()[:1])
    assert isinstance(open_run(tmp_path).model(), OneLayer)


def test_the_loop_trains_like_fit(tmp_path, tiny_config, draw_examples):
    """The loop alone, as in its docstring, gives the parameters that `fit` saves."""
    config, examples, devices = tiny_config(epochs=2), draw_examples(44), jax.devices()[:1]
    assert fit(tmp_path, config, examples, Validation(examples.images[:0], np.zeros(0)), devices)
    loop = TrainLoop(config=config, num_rows=44)
    state, resident = replicate((loop.init(config.seed), examples), devices)
    run_epoch = loop.compile(devices, state, resident)
    for epoch in range(loop.training.epochs):
        state, metrics, stopped = run_epoch(state, resident, loop.order(config.seed, epoch))
        assert not stopped
        assert metrics["loss"].shape == (loop.steps_per_epoch,)
    jax.tree.map(np.testing.assert_array_equal, state.ema["params"], open_run(tmp_path).params)
