from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxnets.devices import AXIS, choose_devices, replicate, shard_rows
from jaxnets.errors import InputError
from jaxnets.models import MODELS, conv
from jaxnets.runs import init_arrays
from jaxnets.training import parallel
from jaxnets.training.fit import Validation, fit
from jaxnets.training.order import batch_order
from jaxnets.training.parallel import MIN_STEPS_TO_OPTIMIZE, check_batch, compile_epoch, compile_loop, compile_steps
from jaxnets.training.step import init_state, make_train_step

pytestmark = pytest.mark.usefixtures("quick_compilation")
ONE, TWO = jax.devices()[:1], jax.devices()[:2]
ORDER = batch_order(26, 8, seed=0, epoch=0)


@pytest.fixture(scope="module", autouse=True)
def plain_convolutions():
    """XLA's convolutions compile in two thirds of the time; tests/models compares the other strategies with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "SMALL", 0)
        yield


def train_epoch(config, examples, devices, *, compile=compile_steps, until=3):
    """-> the state, still on its devices, and the metrics of three steps with augmentation and MixUp.

    Plain gradient descent compiles faster than AdamW, and does not amplify rounding errors of small gradients.
    """
    graphdef, params, stats = init_arrays(config, axis_name=AXIS)
    optimizer = optax.sgd(0.1)
    train_step = make_train_step(graphdef, optimizer, config.recipe.training, precision=config.precision)
    state, resident = replicate((init_state(params, stats, optimizer, seed=0), examples), devices)
    calls = []
    run_epoch = compile(train_step, devices, state, resident, ORDER)
    on_step = lambda steps, metrics: calls.append(steps) or steps == until
    state, metrics, stopped = run_epoch(state, resident, ORDER, on_step)
    assert stopped
    assert until in calls
    assert {values.shape for values in metrics.values()} == {(calls[-1],)}
    return state, metrics


def assert_replicas_agree(tree):
    """All devices hold the same numbers, which `out_axes=None` assumes and does not check."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert len(others) == 1
        np.testing.assert_array_equal(others[0], first, jax.tree_util.keystr(path))


def assert_close(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, desired)


@pytest.fixture(scope="module", params=MODELS)
def on_two(request, tiny_config, draw_examples, quick_compilation):
    """A family's config, state and metrics after an epoch on two devices."""
    config = tiny_config(request.param)
    return config, *train_epoch(config, draw_examples(26), TWO)


def test_replicas_agree(on_two):
    _, state, metrics = on_two
    assert_replicas_agree(state)
    assert np.isfinite(metrics["loss"]).all()


def test_one_device_trains_like_two(on_two, draw_examples):
    config, *desired = on_two
    assert_close(list(train_epoch(config, draw_examples(26), ONE)), desired)


@pytest.mark.parametrize("steps_per_call", [2, 64])
def test_a_loop_trains_like_single_steps(monkeypatch, tiny_config, draw_examples, steps_per_call):
    monkeypatch.setattr(parallel, "STEPS_PER_CALL", steps_per_call)
    config, examples = tiny_config(), draw_examples(26)
    single, looped = (train_epoch(config, examples, TWO, compile=form) for form in (compile_steps, compile_loop))
    assert_replicas_agree(looped[0])
    assert_close(looped, single)


@pytest.mark.parametrize(("compile", "steps"), [(compile_steps, 2), (compile_loop, 1)])
def test_a_stopped_epoch_returns_the_steps_that_were_run(monkeypatch, tiny_config, draw_examples, compile, steps):
    """With single steps the next one runs while the callback is called."""
    monkeypatch.setattr(parallel, "STEPS_PER_CALL", 1)
    config, examples = tiny_config(), draw_examples(26)
    state, metrics = train_epoch(config, examples, ONE, compile=compile, until=1)
    assert state.step == steps
    whole = train_epoch(config, examples, ONE, compile=compile)[1]
    jax.tree.map(lambda part, all: np.testing.assert_array_equal(part, all[:steps]), metrics, whole)


def test_an_optimized_program_trains_like_another_and_repeats(tiny_config, draw_examples):
    config, examples = tiny_config(), draw_examples(26)
    optimized = partial(compile_epoch, total_steps=MIN_STEPS_TO_OPTIMIZE)
    short, long, again = (
        train_epoch(config, examples, TWO, compile=form) for form in (compile_steps, optimized, optimized)
    )
    assert_close(long, short)
    jax.tree.map(np.testing.assert_array_equal, long, again)


@pytest.mark.parametrize(("size", "rows", "words"), [(6, 99, "multiple of 4"), (7, 99, "pairs"), (32, 31, "31 train")])
def test_a_bad_batch_size_is_rejected(size, rows, words):
    with pytest.raises(InputError, match=words):
        check_batch(size, rows, TWO)


def test_a_bad_batch_size_is_rejected_before_anything_is_written(tmp_path, tiny_config, draw_examples):
    examples = draw_examples(10)
    with pytest.raises(InputError, match="batch_size"):
        fit(tmp_path / "run", tiny_config(batch_size=6), examples, Validation(examples.images, np.zeros(10)), TWO)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_a_wrong_number_of_devices_is_rejected(count):
    with pytest.raises(InputError, match=f"^devices: {count} requested, 2 of kind cpu available. Fix: give 1 to 2"):
        choose_devices(count)


def test_the_first_devices_are_chosen():
    assert [list(choose_devices(count)) for count in (None, 1, 2)] == [TWO, ONE, TWO]


def test_shards_keep_neighbours_together():
    np.testing.assert_array_equal(shard_rows(np.arange(8).reshape(1, 8), TWO), [[[0, 1, 2, 3]], [[4, 5, 6, 7]]])


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_donating_a_replica_leaves_the_original(devices):
    original = jax.numpy.arange(4.0)
    replica = replicate(original, devices)
    jax.block_until_ready(jax.jit(lambda x: x + 1, donate_argnums=0)(replica))
    assert replica.is_deleted()
    np.testing.assert_array_equal(original, [0, 1, 2, 3])
