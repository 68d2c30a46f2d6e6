import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnets.config import NO_WARP, TrainConfig
from jaxnets.devices import AXIS
from jaxnets.models import MODELS
from jaxnets.models.functional import apply, split
from jaxnets.runs import build, init_arrays
from jaxnets.training import step
from jaxnets.training.optimizer import is_kernel, learning_rate, make_optimizer
from jaxnets.training.step import init_state, make_train_step, moving_average

pytestmark = pytest.mark.usefixtures("quick_compilation")
PLAIN = {"augmentation": NO_WARP, "label_smoothing": 0.1}
KEEP = optax.GradientTransformation(
    lambda params: params, lambda grads, state, params: (jax.tree.map(jnp.zeros_like, grads), grads)
)
"""An optimizer that changes no parameter; its state is the gradient."""


def start(config, optimizer):
    """-> state, step(state, batch) on one device."""
    graphdef, params, stats = init_arrays(config, axis_name=AXIS)
    train_step = make_train_step(graphdef, optimizer, config.recipe.training, precision=config.precision)
    mapped = jax.pmap(train_step, AXIS, in_axes=(None, 0, 0), out_axes=None, devices=jax.devices()[:1])
    shard = lambda batch: jax.tree.map(lambda array: array[None], batch)
    step = lambda state, batch: mapped(state, shard(batch), np.arange(len(batch.images))[None])
    return init_state(params, stats, optimizer, seed=config.seed), step


@pytest.fixture(scope="module")
def gradients(tiny_config, quick_compilation):
    """gradients(batch) -> gradients and metrics of one step without augmentation."""
    state, step = start(tiny_config(**PLAIN), KEEP)

    def step_gradients(batch):
        after, metrics = step(state, batch)
        return after.opt_state, metrics

    return step_gradients


@pytest.fixture(scope="module")
def trajectory(tiny_config, draw_examples, quick_compilation):
    """States and losses of ten steps on one batch."""
    config = tiny_config(learning_rate=0.05, ema_decay=0.15)
    state, step = start(config, make_optimizer(config.recipe.training, 50))
    batch, states, losses = draw_examples(8), [state], []
    for _ in range(10):
        state, metrics = step(state, batch)
        states.append(state)
        losses.append(float(metrics["loss"]))
    return jax.device_get(states), losses


def assert_close(actual, desired, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, desired)


def test_gradients_are_those_of_the_loss_written_out(gradients, tiny_config, draw_examples):
    batch, (graphdef, params, stats) = draw_examples(8), init_arrays(tiny_config())

    def loss(params):
        logits, _ = apply(graphdef, params, stats, batch.images / np.float32(255), train=True)
        targets = 0.9 * batch.targets + 0.1 / 10
        return -(batch.weights[:, None] * targets * jax.nn.log_softmax(logits)).sum() / 8

    value, desired = jax.jit(jax.value_and_grad(loss))(params)
    actual, metrics = gradients(batch)
    assert_close(actual, desired, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(desired), rtol=1e-5)


def test_an_example_of_weight_zero_has_no_gradient(gradients, draw_examples):
    batch = draw_examples(8)
    targets = batch.targets.copy()
    targets[0] = np.eye(10)[3]
    assert_close(gradients(batch._replace(targets=targets))[0], gradients(batch)[0], rtol=0)
    weighted = batch._replace(weights=np.ones_like(batch.weights))
    (_, one), (_, other) = gradients(weighted), gradients(weighted._replace(targets=targets))
    assert one["loss"] != other["loss"]


def test_twice_the_weight_is_twice_the_gradient(gradients, draw_examples):
    batch = draw_examples(8)
    twice, _ = gradients(batch._replace(weights=2 * batch.weights))
    assert_close(twice, jax.tree.map(lambda grad: 2 * grad, gradients(batch)[0]), rtol=1e-6)


def test_float16_keeps_small_gradients(gradients, tiny_config, draw_examples):
    batch = draw_examples(8)
    batch = batch._replace(weights=batch.weights / 1024)
    state, step = start(tiny_config(precision="float16", **PLAIN), KEEP)
    half, single = step(state, batch)[0].opt_state, gradients(batch)[0]
    error = jax.tree.map(lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)), half, single)
    assert max(jax.tree.leaves(error)) < 0.01


def test_steps_lower_the_loss(trajectory):
    _, losses = trajectory
    assert np.mean(losses[-5:]) < losses[0]  # each step draws new warps, so single losses vary


def test_an_overflowing_statistic_shows_in_the_metrics_while_the_loss_is_finite(tiny_config, draw_examples):
    state, step = start(tiny_config(**PLAIN), KEEP)
    leaves, structure = jax.tree.flatten(state.stats)
    stats = jax.tree.unflatten(structure, [*leaves[:-1], jnp.full_like(leaves[-1], jnp.inf)])
    _, metrics = step(state._replace(stats=stats), draw_examples(8))
    assert np.isfinite([metrics["loss"], metrics["gradient_norm"]]).all()
    assert not np.isfinite(metrics["statistics_norm"])


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_mean_over_devices_is_that_of_every_leaf(platform, monkeypatch):
    monkeypatch.setattr(step, "target_platform", lambda: platform)
    rng = np.random.default_rng(0)
    tree = {"kernel": rng.normal(size=(2, 3, 5)), "bias": rng.normal(size=(2, 5)), "loss": rng.normal(size=2)}
    tree = {name: values.astype(np.float32) for name, values in tree.items()}
    mapped = jax.pmap(lambda tree: step.average_over_devices(tree), AXIS, out_axes=None, devices=jax.devices()[:2])
    for name, mean in mapped(tree).items():
        np.testing.assert_array_equal(mean, tree[name].mean(0), name)
    one_vector = "f32[21]" in mapped.lower(tree).as_text("hlo")
    assert one_vector == (platform != "cpu")


def test_the_ema_follows_parameters_and_statistics(trajectory):
    states, _ = trajectory
    ema = {"params": states[0].params, "stats": states[0].stats}
    for t, state in enumerate(states[1:]):
        decay = min(0.15, (1 + t) / (10 + t))
        value = {"params": state.params, "stats": state.stats}
        ema = jax.tree.map(lambda old, new, decay=decay: decay * old + (1 - decay) * new, ema, value)
        assert_close(state.ema, ema, rtol=1e-4, atol=1e-6)
        assert state.step == t + 1
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), states[0].ema, states[-1].ema)
    assert all(jax.tree.leaves(moved))


def test_the_ema_reaches_its_decay():
    np.testing.assert_allclose(moving_average(jnp.ones(2), jnp.zeros(2), jnp.int32(10**6), decay=0.99), 0.99, rtol=1e-6)


@pytest.mark.parametrize("family", MODELS)
def test_only_kernels_decay(family, tiny_config):
    config = tiny_config(family)
    _, params, _ = split(nnx.eval_shape(lambda: build(config)))
    for path, decays in jax.tree.leaves_with_path(is_kernel(params)):
        assert decays == (path[-1].key == "kernel"), jax.tree_util.keystr(path)


def test_decay_is_scaled_by_the_learning_rate():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    optimizer = make_optimizer(TrainConfig(learning_rate=0.1, weight_decay=0.5), 100)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert_close(updates, {"kernel": np.full((2, 3), -0.01 * 0.5), "bias": np.zeros(3)}, rtol=1e-5)


@pytest.mark.parametrize("norm", [0.1, 1.0, 50.0])
def test_gradients_are_clipped_by_their_common_norm(norm):
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(5)}
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, norm / 3), params)  # nine equal values
    optimizer = make_optimizer(TrainConfig(clip_norm=1.0), 10)
    _, state = optimizer.update(grads, optimizer.init(params), params)
    first_moment = optax.tree.get(state, "mu")  # a tenth of the clipped gradients
    np.testing.assert_allclose(10 * optax.tree.norm(first_moment), min(norm, 1.0), rtol=1e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.15), (100, 0.0), (7, 0.5), (2, 0.15)])
def test_the_learning_rate_rises_from_a_tenth_and_falls_to_zero(steps, warmup):
    schedule = learning_rate(TrainConfig(learning_rate=0.1, warmup=warmup), steps)
    rates = np.array([schedule(step) for step in range(steps + 1)])
    peak = max(1, round(warmup * steps))
    np.testing.assert_allclose(rates[[0, peak, -1]], [0.01, 0.1, 0], rtol=1e-5, atol=1e-7)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
