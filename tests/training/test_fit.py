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
from jaxnets.runs import init_arrays, open_run, read_config
from jaxnets.store import checkpoint, fingerprint
from jaxnets.training import fit as fit_module
from jaxnets.training.fit import Validation, check_finite, fit, read_history, resume
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.step import init_state

pytestmark = pytest.mark.usefixtures("quick_compilation")
STEPS = 5  # an epoch: 44 rows in batches of 8
TIMES = {"images_per_second", "seconds", "compile_seconds"}


class KilledError(Exception):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture(scope="module")
def train(tiny_config, draw_examples, quick_compilation):
    """train(folder, report) on random data and two devices."""
    config, examples = tiny_config(), draw_examples(44)
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
        point = resume(folder, config, fresh, fingerprint.fingerprint(jax.devices()[:2]))
        assert (point.part, point.seconds) == ({}, 0)
        kept = [{name: value for name, value in row.items() if name not in TIMES} for row in point.history]
        return point.state, kept, open_run(folder), open_run(folder, best=True)

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
    assert actual[1] == desired[1]
    actual, desired = ((state, last[2:], best[2:]) for state, _, last, best in (actual, desired))
    jax.tree.map(np.testing.assert_array_equal, actual, desired)


def test_a_run_leaves_config_history_and_state(whole, tiny_config, draw_examples):
    assert read_config(whole) == tiny_config()
    assert checkpoint.steps(whole / "state") == [2 * STEPS, 3 * STEPS]
    history, run = read_history(whole), open_run(whole)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["learning_rate"] < history[0]["learning_rate"]
    examples = draw_examples(44)
    log_probs = make_predict(run.graphdef, jax.devices()[:1])(run.params, run.stats, examples.images[:6])
    assert history[-1]["valid_accuracy"] == accuracy(log_probs, examples.targets[:6].argmax(axis=1))


def test_progress_is_reported(train, tmp_path):
    seen = []
    train(tmp_path, report=lambda progress: seen.append((progress.finished, progress.step)))
    assert seen == [(epoch + step // 6, step % 6) for epoch in range(3) for step in range(1, 7)]


@pytest.mark.parametrize("kills", [[(0, 1)], [(1, 0)], [(1, 5), (2, 1)], [(3, 0)]])
def test_a_killed_run_ends_in_the_same_bits(train, whole, end, tmp_path, kills):
    for stop in kills:
        with pytest.raises(KilledError):
            train(tmp_path, report=kill_at(*stop))
    train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))
    assert checkpoint.steps(tmp_path / "state") == [2 * STEPS, 3 * STEPS]


@pytest.mark.parametrize("folder", ["best", "state"])
def test_a_kill_before_a_save_changes_nothing(train, whole, end, tmp_path, monkeypatch, folder):
    def save(path, step, *arguments, save=checkpoint.save, **options):
        if (path.name, step) == (folder, STEPS):
            raise KilledError
        save(path, step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KilledError):
            train(tmp_path)
    train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))


@pytest.mark.parametrize("stops", [[1], [4], [2, 4, 7, 13], [14]])
def test_a_run_that_is_stopped_goes_on_from_that_very_step(train, whole, end, tmp_path, stops):
    for stop in stops:
        at = [0]
        note = lambda progress, at=at: at.append(progress.finished * STEPS + progress.step)
        finished = train(tmp_path, report=note, stopping=lambda at=at, stop=stop: at[-1] >= stop)
        assert finished == (stop == 14)  # it runs while the one before is looked at
        assert checkpoint.steps(tmp_path / "state")[-1] == stop + 1
        if not finished:
            with pytest.raises(InputError, match=f"was trained for {(stop + 1) // STEPS} of 3 epochs"):
                open_run(tmp_path)
    assert train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))


@pytest.mark.parametrize("call", [2, STEPS])
def test_a_stop_that_is_requested_once_is_kept(train, whole, end, tmp_path, call):
    calls = iter(range(1, 100))
    assert not train(tmp_path, stopping=lambda: next(calls) == call)
    assert checkpoint.steps(tmp_path / "state") == [min(call + 1, STEPS)]  # one step runs while the one before ends
    assert train(tmp_path)
    assert_same_run(end(tmp_path), end(whole))


def test_a_kill_before_the_last_row_of_the_history_loses_none(train, whole, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(whole, folder)
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(lines[:-1]))
    assert train(folder)
    assert read_history(folder) == read_history(whole)


def test_a_finished_run_is_not_trained_again(train, whole):
    before, seen = files(whole), []
    train(whole, report=seen.append)
    assert seen == []
    assert files(whole) == before


def test_another_config_is_refused(train, whole, tiny_config, draw_examples):
    before, examples = files(whole), draw_examples(44)
    valid = Validation(examples.images[:6], np.zeros(6))
    for config, words in ((replace(tiny_config(), seed=4), "another seed"), (tiny_config(epochs=4), "another recipe")):
        with pytest.raises(InputError, match=words):
            fit(whole, config, examples, valid, jax.devices()[:2])
    assert files(whole) == before


def test_other_hardware_is_spoken_of_or_refused(train, tmp_path, monkeypatch):
    train(tmp_path, stopping=lambda: True)
    before = files(tmp_path)
    monkeypatch.setattr(fingerprint, "processors", lambda: 99)
    with pytest.raises(InputError, match=r"the bits may differ: processors 99, was \d+\. Fix: compute all"):
        train(tmp_path, identical=True)
    assert files(tmp_path) == before
    with pytest.warns(UserWarning, match=r"the bits may differ: processors 99, was \d+$"):
        train(tmp_path, stopping=lambda: True)
    with pytest.raises(InputError, match=r"the bits may differ: processors 99, was \d+\. Fix"):  # as when it went on
        train(tmp_path, identical=True)


@pytest.mark.parametrize("place", [0, 4, 5, 14])
def test_what_diverges_is_named_and_never_saved(train, tmp_path, monkeypatch, place):
    def poisoned(config, parts, epoch, first, metrics, real=check_finite):
        if (epoch * STEPS + first) == place:
            metrics = metrics | {"gradient_norm": np.array([np.nan])}
        return real(config, parts, epoch, first, metrics)

    monkeypatch.setattr(fit_module, "check_finite", poisoned)
    words = f"wide_cnn, seed 3: epoch {place // STEPS + 1}, step {place % STEPS + 1} of 5: loss .*, gradient_norm nan"
    with pytest.raises(DivergedError, match=words + r", .*learning_rate \d.*, rows \d+, "):
        train(tmp_path)
    assert checkpoint.steps(tmp_path / "state") == [step for step in (5, 10) if step <= place]


def test_a_disk_without_room_is_noticed_before_anything_is_written(train, whole, end, tmp_path, monkeypatch):
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(end(whole)[0]))
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * size - 1))
    with pytest.raises(InputError, match=r"MiB are needed, 0\.0 MiB are free. Fix: make room"):
        train(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_answers_that_are_not_finite_end_it_before_they_are_scored(train, tmp_path, monkeypatch):
    def answer(*arguments):
        return np.full((6, 10), np.nan if checkpoint.steps(tmp_path / "best") else -1)

    monkeypatch.setattr(fit_module, "make_predict", lambda *arguments: answer)
    words = "wide_cnn, seed 3: epoch 2, step 5 of 5: loss .*, gradient_norm .*, learning_rate .*: validation rows: "
    with pytest.raises(DivergedError, match=words):
        train(tmp_path)
    assert checkpoint.steps(tmp_path / "state") == checkpoint.steps(tmp_path / "best") == [5]


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


@pytest.mark.timeout(20)
def test_a_history_that_never_ends_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(InputError, match=r"metrics\.csv: is a pipe or a device\. Fix: train this run again"):
        read_history(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    with pytest.raises(InputError, match=r"metrics\.csv: cannot be read .*Fix: train this run again"):
        read_history(tmp_path)
    fit_module.write_history(tmp_path, [dict.fromkeys(TIMES, 1.0)])
    assert read_history(tmp_path) == [dict.fromkeys(TIMES, 1.0)]
    monkeypatch.setattr(fit_module, "LIMIT", 10)
    with pytest.raises(InputError, match=r"metrics\.csv: is larger than 10 bytes"):
        read_history(tmp_path)
