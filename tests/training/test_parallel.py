from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxnets.devices import AXIS, choose_devices, replicate, share
from jaxnets.errors import InputError
from jaxnets.models import MODELS, conv
from jaxnets.runs import init_arrays
from jaxnets.training import parallel
from jaxnets.training.fit import Validation, fit
from jaxnets.training.order import batch_order
from jaxnets.training.parallel import LONG, check_batch, compile_epoch, compile_loop, compile_steps
from jaxnets.training.step import init_state, make_train_step

pytestmark = pytest.mark.usefixtures("quick_compilation")
ONE, TWO = jax.devices()[:1], jax.devices()[:2]
ORDER = batch_order(26, 8, seed=0, epoch=0)


@pytest.fixture(scope="module", autouse=True)
def plain_convolutions():
    """XLA's convolutions, which compile in two thirds of the time; tests/models holds the columns against them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "SMALL", 0)
        yield


def run_epoch(config, examples, devices, *, form=compile_epoch, until=3):
    """-> the state, still on its devices, and the metrics of three steps with augmentation and MixUp; plain descent
    compiles sooner than AdamW, and does not blow up the rounding of small gradients."""
    graphdef, params, stats = init_arrays(config, axis_name=AXIS)
    optimizer = optax.sgd(0.1)
    train_step = make_train_step(graphdef, optimizer, config.recipe.training, precision=config.precision)
    state, resident = replicate((init_state(params, stats, optimizer, seed=0), examples), devices)
    done = []
    epoch = form(train_step, devices, state, resident, ORDER)
    state, metrics = epoch(state, resident, ORDER, lambda steps, metrics: done.append(steps) or steps == until)
    assert until in done
    assert {values.shape for values in metrics.values()} == {(done[-1],)}
    return state, metrics


def assert_replicas_agree(tree):
    """Every device holds the same numbers: `out_axes=None` claims it, and nothing else checks it."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert len(others) == 1
        np.testing.assert_array_equal(others[0], first, jax.tree_util.keystr(path))


def assert_close(actual, desired):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, desired)


@pytest.fixture(scope="module", params=MODELS)
def on_two(request, tiny_config, draw_examples, quick_compilation):
    """A family's config, and its state and metrics after an epoch on two devices."""
    config = tiny_config(request.param)
    return config, *run_epoch(config, draw_examples(26), TWO)


def test_replicas_agree(on_two):
    _, state, metrics = on_two
    assert_replicas_agree(state)
    assert np.isfinite(metrics["loss"]).all()


def test_one_device_ends_where_two_do(on_two, draw_examples):
    config, *desired = on_two
    assert_close(list(run_epoch(config, draw_examples(26), ONE)), desired)


@pytest.mark.parametrize("piece", [2, 64])
def test_a_loop_ends_where_single_steps_do(monkeypatch, tiny_config, draw_examples, piece):
    monkeypatch.setattr(parallel, "PIECE", piece)
    config, examples = tiny_config(), draw_examples(26)
    single, looped = (run_epoch(config, examples, TWO, form=form) for form in (compile_steps, compile_loop))
    assert_replicas_agree(looped[0])
    assert_close(looped, single)


@pytest.mark.parametrize(("form", "steps"), [(compile_steps, 2), (compile_loop, 1)])
def test_an_epoch_that_is_stopped_says_what_it_has_done(monkeypatch, tiny_config, draw_examples, form, steps):
    """Single steps have one more running while they are told of."""
    monkeypatch.setattr(parallel, "PIECE", 1)
    config, examples = tiny_config(), draw_examples(26)
    state, metrics = run_epoch(config, examples, ONE, form=form, until=1)
    assert state.step == steps
    whole = run_epoch(config, examples, ONE, form=form)[1]
    jax.tree.map(lambda part, all: np.testing.assert_array_equal(part, all[:steps]), metrics, whole)


@pytest.mark.parametrize("form", [partial(compile_epoch, steps=LONG), partial(compile_steps, long=True)])
def test_a_long_training_ends_where_a_short_one_does_and_repeats(form, tiny_config, draw_examples):
    config, examples = tiny_config(), draw_examples(26)
    short, long, again = (run_epoch(config, examples, TWO, form=way) for way in (compile_steps, form, form))
    assert_close(long, short)
    jax.tree.map(np.testing.assert_array_equal, long, again)


@pytest.mark.parametrize(("size", "rows", "words"), [(6, 99, "multiple of 4"), (7, 99, "pairs"), (32, 31, "31 train")])
def test_bad_batches_are_refused(size, rows, words):
    with pytest.raises(InputError, match=words):
        check_batch(size, rows, TWO)


def test_a_bad_batch_is_refused_before_anything_starts(tmp_path, tiny_config, draw_examples):
    examples = draw_examples(10)
    with pytest.raises(InputError, match="batch_size"):
        fit(tmp_path / "run", tiny_config(batch_size=6), examples, Validation(examples.images, np.zeros(10)), TWO)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_devices_that_are_not_there(count):
    with pytest.raises(InputError, match=f"--devices: {count} asked for, 2 of kind cpu here. Fix: give 1 to 2"):
        choose_devices(count)


def test_devices_are_chosen_from_the_first():
    assert [list(choose_devices(count)) for count in (None, 1, 2)] == [TWO, ONE, TWO]


def test_shares_keep_neighbours_together():
    np.testing.assert_array_equal(share(np.arange(8).reshape(1, 8), TWO), [[[0, 1, 2, 3]], [[4, 5, 6, 7]]])


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_donating_a_replica_leaves_the_original(devices):
    original = jax.numpy.arange(4.0)
    replica = replicate(original, devices)
    jax.block_until_ready(jax.jit(lambda x: x + 1, donate_argnums=0)(replica))
    assert replica.is_deleted()
    np.testing.assert_array_equal(original, [0, 1, 2, 3])
