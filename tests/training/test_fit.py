import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxnets.config import to_json
from jaxnets.errors import DivergedError, InputError
from jaxnets.inference.ensemble import accuracy
from jaxnets.inference.predict import make_predict
from jaxnets.runs import open_run, read_config
from jaxnets.store import checkpoint, fingerprint
from jaxnets.training import fit as fit_module
from jaxnets.training import history
from jaxnets.training.fit import Validation, check_finite, fit
from jaxnets.training.fit_state import from_items, resume, to_items
from jaxnets.training.history import read_history, write_history
from jaxnets.training.loop import TrainLoop

pytestmark = pytest.mark.usefixtures("quick_compilation")
STEPS = 5  # per epoch: 44 rows in batches of 8
TIMES = {"images_per_second", "seconds", "compile_seconds"}


class KilledError(Exception):
    """Simulates a kill: nothing in the package catches it."""


@pytest.fixture(scope="module")
def train(tiny_config, draw_examples, quick_compilation):
    """train(folder, **options) on random data and two devices."""
    config, examples = tiny_config(), draw_examples(44)
    valid = Validation(examples.images[:6], examples.targets[:6].argmax(axis=1))
    return lambda folder, **options: fit(folder, config, examples, valid, jax.devices()[:2], **options)


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder)
    return folder


@pytest.fixture
def read_saved(tiny_config):
    """read_saved(folder) -> the state, the history without its times, and the run."""
    config = tiny_config()
    other = TrainLoop(config=config, num_rows=44).init(99)

    def read(folder):
        saved = resume(folder, config, other, fingerprint.fingerprint(jax.devices()[:2]))
        assert (saved.part, saved.seconds) == ({}, 0)
        rows = [{name: value for name, value in row.items() if name not in TIMES} for row in saved.history]
        return saved.state, rows, open_run(folder)

    return read


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_at(*stop):
    """A progress callback that raises KilledError at (finished epochs, step)."""

    def on_progress(progress):
        if (progress.finished, progress.step) == stop:
            raise KilledError

    return on_progress


def assert_same_run(actual, desired):
    assert actual[1] == desired[1]
    actual, desired = ((state, run[2:]) for state, _, run in (actual, desired))
    jax.tree.map(np.testing.assert_array_equal, actual, desired)


def test_a_run_has_config_history_and_state(uninterrupted, tiny_config, draw_examples):
    assert read_config(uninterrupted) == tiny_config()
    assert checkpoint.saved_steps(uninterrupted / "state") == [2 * STEPS, 3 * STEPS]
    rows, run = read_history(uninterrupted), open_run(uninterrupted)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["learning_rate"] < rows[0]["learning_rate"]
    examples = draw_examples(44)
    log_probs = make_predict(run.graphdef, jax.devices()[:1])(run.params, run.stats, examples.images[:6])
    assert rows[-1]["valid_accuracy"] == accuracy(log_probs, examples.targets[:6].argmax(axis=1))


def test_progress_is_reported(train, tmp_path):
    seen = []
    train(tmp_path, on_progress=lambda progress: seen.append((progress.finished, progress.step)))
    assert seen == [(epoch + step // 6, step % 6) for epoch in range(3) for step in range(1, 7)]


@pytest.mark.parametrize("kills", [[(0, 1)], [(1, 0)], [(1, 5), (2, 1)], [(3, 0)]])
def test_a_killed_run_resumes_to_bitwise_identical_results(train, uninterrupted, read_saved, tmp_path, kills):
    for stop in kills:
        with pytest.raises(KilledError):
            train(tmp_path, on_progress=kill_at(*stop))
    train(tmp_path)
    assert_same_run(read_saved(tmp_path), read_saved(uninterrupted))
    assert checkpoint.saved_steps(tmp_path / "state") == [2 * STEPS, 3 * STEPS]


def test_a_run_killed_before_a_save_resumes_to_bitwise_identical_results(
    train, uninterrupted, read_saved, tmp_path, monkeypatch
):
    def save(path, step, *arguments, save=checkpoint.save, **options):
        if step == STEPS:
            raise KilledError
        save(path, step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KilledError):
            train(tmp_path)
    train(tmp_path)
    assert_same_run(read_saved(tmp_path), read_saved(uninterrupted))


@pytest.mark.parametrize("stops", [[1], [4], [2, 4, 7, 13], [14]])
def test_a_stopped_run_resumes_from_the_same_step(train, uninterrupted, read_saved, tmp_path, stops):
    for stop in stops:
        at = [0]
        note = lambda progress, at=at: at.append(progress.finished * STEPS + progress.step)
        finished = train(tmp_path, on_progress=note, should_stop=lambda at=at, stop=stop: at[-1] >= stop)
        assert finished == (stop == 14)  # a step runs while the callback of the one before is called
        assert checkpoint.saved_steps(tmp_path / "state")[-1] == stop + 1
        if not finished:
            with pytest.raises(InputError, match=f"was trained for {(stop + 1) // STEPS} of 3 epochs"):
                open_run(tmp_path)
    assert train(tmp_path)
    assert_same_run(read_saved(tmp_path), read_saved(uninterrupted))


@pytest.mark.parametrize("call", [2, STEPS])
def test_a_stop_that_is_requested_once_ends_the_training(train, uninterrupted, read_saved, tmp_path, call):
    calls = iter(range(1, 100))
    assert not train(tmp_path, should_stop=lambda: next(calls) == call)
    assert checkpoint.saved_steps(tmp_path / "state") == [
        min(call + 1, STEPS)
    ]  # one step runs while the one before ends
    assert train(tmp_path)
    assert_same_run(read_saved(tmp_path), read_saved(uninterrupted))


def test_a_run_killed_before_its_last_history_row_writes_it_later(train, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(uninterrupted, folder)
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(lines[:-1]))
    assert train(folder)
    assert read_history(folder) == read_history(uninterrupted)


def test_a_checkpoint_names_its_trees_as_saved_runs_do(tiny_config):
    """Changed names would make existing checkpoints unreadable."""
    state = TrainLoop(config=tiny_config(), num_rows=44).init(0)
    items = to_items(state)
    assert items.keys() == {"average", "rest"}
    assert items["average"].keys() == {"params", "stats"}
    assert items["rest"].keys() == {"step", "params", "stats", "opt_state", "average", "key"}
    assert items["rest"]["average"] == {}
    jax.tree.map(np.testing.assert_array_equal, from_items(items), state)


def test_a_finished_run_is_not_trained_again(train, uninterrupted):
    before, seen = files(uninterrupted), []
    train(uninterrupted, on_progress=seen.append)
    assert seen == []
    assert files(uninterrupted) == before


def test_a_folder_of_another_config_is_rejected(train, uninterrupted, tiny_config, draw_examples):
    before, examples = files(uninterrupted), draw_examples(44)
    valid = Validation(examples.images[:6], np.zeros(6))
    for config, words in ((replace(tiny_config(), seed=4), "another seed"), (tiny_config(epochs=4), "another recipe")):
        with pytest.raises(InputError, match=words):
            fit(uninterrupted, config, examples, valid, jax.devices()[:2])
    assert files(uninterrupted) == before


def test_a_checkpoint_of_another_model_is_rejected_and_kept(train, tmp_path):
    items = {name: {"kernel": np.ones((3, 2), np.float16)} for name in ("average", "rest")}
    checkpoint.save(tmp_path / "state", 7, items, {})
    before = files(tmp_path)
    words = r"state/7: holds another model: average/kernel is float16 \(3, 2\), expected none; average/params/.*missing"
    with pytest.raises(InputError, match=words):
        train(tmp_path)
    assert files(tmp_path) == before


def test_another_environment_gives_a_warning_or_an_error(train, tmp_path, monkeypatch):
    train(tmp_path, should_stop=lambda: True)
    before = files(tmp_path)
    monkeypatch.setattr(fingerprint, "processors", lambda: 99)
    with pytest.raises(InputError, match=r"the bits may differ: processors 99, was \d+\. Fix: compute all"):
        train(tmp_path, identical=True)
    assert files(tmp_path) == before
    with pytest.warns(UserWarning, match=r"the bits may differ: processors 99, was \d+$"):
        train(tmp_path, should_stop=lambda: True)
    with pytest.raises(InputError, match=r"the bits may differ: processors 99, was \d+\. Fix"):  # as it resumed there
        train(tmp_path, identical=True)


@pytest.mark.parametrize("step", [0, 4, 5, 14])
def test_a_step_that_diverges_is_named_and_not_saved(train, tmp_path, monkeypatch, step):
    def poisoned(loop, epoch, first, metrics, real=check_finite):
        if epoch * STEPS + first == step:
            metrics = metrics | {"gradient_norm": np.array([np.nan])}
        return real(loop, epoch, first, metrics)

    monkeypatch.setattr(fit_module, "check_finite", poisoned)
    words = f"wide_cnn, seed 3: epoch {step // STEPS + 1}, step {step % STEPS + 1} of 5: loss .*, gradient_norm nan"
    with pytest.raises(DivergedError, match=words + r", .*learning_rate \d.*, rows \d+, "):
        train(tmp_path)
    assert checkpoint.saved_steps(tmp_path / "state") == [saved for saved in (5, 10) if saved <= step]


def test_a_full_disk_is_detected_before_anything_is_written(train, uninterrupted, read_saved, tmp_path, monkeypatch):
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(read_saved(uninterrupted)[0]))
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * size - 1))
    with pytest.raises(InputError, match=r"MiB are needed, 0\.0 MiB are free. Fix: free some disk space"):
        train(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_predictions_that_are_not_finite_are_not_evaluated(train, tmp_path, monkeypatch):
    def predict(*arguments):
        return np.full((6, 10), np.nan if checkpoint.saved_steps(tmp_path / "state") else -1)

    monkeypatch.setattr(fit_module, "make_predict", lambda *arguments: predict)
    words = "wide_cnn, seed 3: epoch 2, step 5 of 5: loss .*, gradient_norm .*, learning_rate .*: validation rows: "
    with pytest.raises(DivergedError, match=words):
        train(tmp_path)
    assert checkpoint.saved_steps(tmp_path / "state") == [5]


def test_a_folder_that_is_no_run_is_rejected(tmp_path, tiny_config):
    with pytest.raises(InputError, match="is no trained run"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_json(tiny_config())))
    with pytest.raises(InputError, match="holds no finished state"):
        open_run(tmp_path)


@pytest.mark.parametrize("change", ["{", "[]", {"seed": ...}, {"recipe": None}, {"more": 1}, {"image_shape": 3}])
def test_a_damaged_config_is_rejected(tmp_path, tiny_config, change):
    if not isinstance(change, str):
        changed = to_json(tiny_config()) | change
        change = json.dumps({name: value for name, value in changed.items() if value is not ...})
    (tmp_path / "config.json").write_text(change)
    with pytest.raises(InputError, match=r"config\.json: is damaged .*Fix: train this run again"):
        read_config(tmp_path)


@pytest.mark.timeout(20)
def test_a_history_that_is_a_pipe_damaged_or_too_large_is_rejected(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(InputError, match=r"metrics\.csv: is a pipe or a device\. Fix: train this run again"):
        read_history(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    with pytest.raises(InputError, match=r"metrics\.csv: cannot be read .*Fix: train this run again"):
        read_history(tmp_path)
    write_history(tmp_path, [dict.fromkeys(TIMES, 1.0)])
    assert read_history(tmp_path) == [dict.fromkeys(TIMES, 1.0)]
    monkeypatch.setattr(history, "MAX_BYTES", 10)
    with pytest.raises(InputError, match=r"metrics\.csv: is larger than 10 bytes"):
        read_history(tmp_path)
