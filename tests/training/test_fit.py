import json

import jax
import numpy as np
import pytest

from jaxnets.config import to_json
from jaxnets.errors import InputError
from jaxnets.inference.ensemble import accuracy
from jaxnets.inference.predict import make_predict
from jaxnets.runs import init_arrays, open_run, read_config
from jaxnets.training import checkpoint
from jaxnets.training.fit import Validation, fit, read_history, resume
from jaxnets.training.schedule import make_optimizer
from jaxnets.training.step import init_state

pytestmark = pytest.mark.usefixtures("quick_compilation")
STEPS = 2  # an epoch: 20 rows in batches of 8
TIMES = {"images_per_second", "seconds", "compile_seconds"}


class KilledError(Exception):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture(scope="module")
def train(tiny_config, draw_examples, quick_compilation):
    """train(folder, report) on random data and two devices."""
    config, examples = tiny_config(), draw_examples(20)
    valid = Validation(examples.images[:6], examples.targets[:6].argmax(axis=1))
    return lambda folder, **report: fit(folder, config, examples, valid, jax.devices()[:2], **report)


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


@pytest.fixture
def end(tiny_config):
    """end(folder) -> all that is saved there, and the history but for its times."""
    config = tiny_config()
    _, params, stats = init_arrays(config)
    fresh = init_state(params, stats, make_optimizer(config.recipe.training, 3 * STEPS), seed=99)

    def read(folder):
        state, history = resume(folder, fresh, STEPS)
        return state, [{name: value for name, value in row.items() if name not in TIMES} for row in history]

    return read


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_at(*stop):
    """A report that ends the training at (finished epochs, step)."""

    def report(progress):
        if (progress.finished, progress.step) == stop:
            raise KilledError

    return report


def assert_same_run(actual, desired):
    jax.tree.map(np.testing.assert_array_equal, actual[0], desired[0])
    assert actual[1] == desired[1]


def test_a_run_leaves_config_history_and_state(whole, tiny_config, draw_examples):
    assert read_config(whole) == tiny_config()
    assert checkpoint.steps(whole / "state") == [3 * STEPS]
    history, run = read_history(whole), open_run(whole)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["learning_rate"] < history[0]["learning_rate"]
    examples = draw_examples(20)
    log_probs = make_predict(run.graphdef, jax.devices()[:1])(run.params, run.stats, examples.images[:6])
    assert history[-1]["valid_accuracy"] == accuracy(log_probs, examples.targets[:6].argmax(axis=1))


def test_progress_is_reported(train, tmp_path):
    seen = []
    train(tmp_path, report=lambda progress: seen.append((progress.finished, progress.step)))
    assert seen == [(epoch + step // 3, step % 3) for epoch in range(3) for step in (1, 2, 3)]


@pytest.mark.parametrize("kills", [[(0, 1)], [(1, 0)], [(1, 2), (2, 1)], [(3, 0)]])
def test_a_killed_run_ends_in_the_same_bits(train, whole, end, tmp_path, kills):
    for stop in kills:
        with pytest.raises(KilledError):
            train(tmp_path, report=kill_at(*stop))
    train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))
    assert checkpoint.steps(tmp_path / "state") == [3 * STEPS]


def test_a_kill_between_history_and_state_changes_nothing(train, whole, end, tmp_path, monkeypatch):
    def save(folder, step, items, save=checkpoint.save):
        if step == 2 * STEPS:
            raise KilledError
        save(folder, step, items)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KilledError):
            train(tmp_path)
    assert len(read_history(tmp_path)) == 2
    train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))


def test_a_finished_run_is_not_trained_again(train, whole):
    before, seen = files(whole), []
    train(whole, report=seen.append)
    assert seen == []
    assert files(whole) == before


def test_the_newest_step_is_kept_and_leftovers_go(tmp_path):
    tree = lambda value: {"one": {"x": np.full(3, value)}, "two": {"y": np.full((), value)}}
    checkpoint.save(tmp_path, 1, tree(1.0))
    for leftover in ("0.old", "2.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "part").touch()
    assert checkpoint.steps(tmp_path) == [1]
    checkpoint.save(tmp_path, 2, tree(2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    jax.tree.map(np.testing.assert_array_equal, checkpoint.restore(tmp_path, tree(0.0)), tree(2.0))


def test_a_kill_while_the_old_step_is_deleted(tmp_path, monkeypatch):
    def killed(*arguments, **options):
        raise KilledError

    checkpoint.save(tmp_path, 1, {"one": {"x": np.ones(3)}})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove", killed)
        with pytest.raises(KilledError):
            checkpoint.save(tmp_path, 2, {"one": {"x": np.zeros(3)}})
    assert checkpoint.steps(tmp_path) == [2]


def test_one_item_alone_is_restored(tmp_path):
    assert checkpoint.restore(tmp_path / "state", {"two": {"y": np.zeros(2)}}) is None
    checkpoint.save(tmp_path, 7, {"one": {"x": np.ones(3)}, "two": {"y": np.arange(2)}})
    restored = checkpoint.restore(tmp_path, {"two": {"y": jax.ShapeDtypeStruct((2,), np.int64)}})
    assert list(restored) == ["two"]
    np.testing.assert_array_equal(restored["two"]["y"], [0, 1])


def test_folders_that_are_no_runs(tmp_path, tiny_config):
    with pytest.raises(InputError, match="is no trained run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_json(tiny_config())))
    with pytest.raises(InputError, match="holds no finished state"):
        open_run(tmp_path)


@pytest.mark.parametrize("change", ["{", "[]", {"seed": ...}, {"recipe": None}, {"more": 1}, {"image_shape": 3}])
def test_damaged_configs_are_refused(tmp_path, tiny_config, change):
    if not isinstance(change, str):
        changed = to_json(tiny_config()) | change
        change = json.dumps({name: value for name, value in changed.items() if value is not ...})
    (tmp_path / "config.json").write_text(change)
    with pytest.raises(InputError, match=r"config\.json: is damaged .*Fix: train this run again"):
        read_config(tmp_path)
