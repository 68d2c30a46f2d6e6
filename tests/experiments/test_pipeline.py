import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments import ensemble, evaluate, publish
from experiments.ensemble import EnsembleOptions
from experiments.evaluate import EvaluateOptions
from experiments.options import ScoreOptions
from experiments.pipeline import main
from jaxnets.data import load, read_submission
from jaxnets.errors import InputError

ROOT = Path(experiments.__file__).parents[1]
MEMBER = {
    *("family", "seed", "parameters", "valid_accuracy", "test_accuracy", "tta_valid_accuracy"),
    *("train_seconds", "compile_seconds", "images_per_second"),
}
REPORT = {"data", "preset", "device", "jax_version", "seed", "members", "ensemble", "pseudo_labels", "total_seconds"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(out, *arguments) -> the pipeline's process on tiny networks; all share one cache of compiled programs."""
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def begin(out, *arguments):
        command = [sys.executable, "-m", "experiments.pipeline", "--preset", "smoke", "--data", "digits", "--out"]
        return begin.command([*command, str(out), *arguments])

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    begin.command = lambda command: subprocess.Popen(command, env=os.environ | quick | cache, cwd=ROOT, **pipes)
    return begin


def finish(process):
    stdout, stderr = process.communicate(timeout=280)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The folder of a pipeline that nothing interrupted."""
    out = tmp_path_factory.mktemp("pipeline") / "whole"
    code, stdout, stderr = finish(start(out))
    assert (code, stderr) == (0, ""), stderr
    assert "test accuracy" in stdout
    return out


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(path, process):
    """Whether the process is still there when `path` is."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    return process.poll() is None


def signal_when(process, path, *numbers):
    """Sends the signals as soon as `path` is there -> exit code and stderr."""
    assert wait_for(path, process), f"ended before {path} was seen"
    for number in numbers:
        process.send_signal(number)
    code, _, stderr = finish(process)
    return code, stderr


def assert_same_answers(out, whole):
    for path in ("submission.csv", "pseudo_labels/summary.json", "pseudo_labels/selected.npz"):
        assert (out / path).read_bytes() == (whole / path).read_bytes(), path
    for name in ("valid", "test"):
        one, other = (np.load(folder / "ensemble" / f"log_probs_{name}.npz")["log_probs"] for folder in (out, whole))
        np.testing.assert_array_equal(one, other)
    assert not list(out.rglob(".*"))
    kept = [{path for path in files(folder) if not {"state", "best"} & set(path.parts)} for folder in (out, whole)]
    assert kept[0] == kept[1]


def test_the_report_is_complete(whole):
    report = json.loads((whole / "report.json").read_text())
    assert set(report) >= REPORT
    assert [set(member) >= MEMBER for member in report["members"]] == [True] * 6
    assert set(report["ensemble"]) >= {"valid_accuracy", "tta_valid_accuracy", "test_accuracy"}
    assert set(report["pseudo_labels"]) >= {"selected", "threshold", "agreement"}
    assert report["ensemble"]["test_accuracy"] > 0.9
    assert report["pseudo_labels"]["selected"] > 0
    assert not list(whole.rglob(".*"))


def test_the_submission_is_the_ensembles_answer(whole):
    log_probs = np.load(whole / "ensemble" / "log_probs_test.npz")["log_probs"]
    answers = read_submission(whole / "submission.csv")
    assert answers.shape == (359,)
    np.testing.assert_array_equal(answers, log_probs.argmax(axis=1))
    report = json.loads((whole / "report.json").read_text())
    assert (answers == load("digits").y_test).mean() == report["ensemble"]["test_accuracy"]


def test_a_second_start_changes_nothing(start, whole):
    before = files(whole)
    code, stdout, stderr = finish(start(whole))
    assert (code, stderr) == (0, "")
    assert "epoch" not in stdout
    assert files(whole) == before


def test_other_settings_on_the_same_folder_are_refused(start, whole):
    before = files(whole)
    code, _, stderr = finish(start(whole, "--seed", "1"))
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: ")
    assert "another seed" in stderr
    assert "Fix: " in stderr
    assert files(whole) == before


@pytest.fixture
def begun(whole, tmp_path):
    """A job with two members done."""
    out = tmp_path / "begun"
    (out / "members").mkdir(parents=True)
    shutil.copy(whole / "job.json", out)
    for member in ("resnet-0", "deep_cnn-0"):
        shutil.copytree(whole / "members" / member, out / "members" / member)
    return out


def test_a_killed_pipeline_ends_in_the_same_bits(start, whole, begun):
    for path in ("members/.wide_cnn-0.unfinished/metrics.csv", "pseudo_labels"):
        assert signal_when(start(begun), begun / path, signal.SIGKILL)[0] == -signal.SIGKILL
    code, _, stderr = finish(start(begun))
    assert (code, stderr) == (0, "")
    assert_same_answers(begun, whole)


def test_a_stopped_pipeline_says_how_to_go_on(start, whole, begun):
    seen = (".wide_cnn-0.unfinished/state", ".wide_cnn-0.lock")
    for path, number in zip(seen, (signal.SIGTERM, signal.SIGINT), strict=True):
        code, stderr = signal_when(start(begun), begun / "members" / path, number)
        assert code == 128 + number
        told, command = stderr.splitlines()
        assert told == "stopped: what was saved is kept; go on with"
    code, stderr = signal_when(start(begun), begun / "members" / seen[1], signal.SIGTERM, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    code, _, stderr = finish(start.command(shlex.split(command)))
    assert (code, stderr) == (0, "")
    assert_same_answers(begun, whole)


def test_two_pipelines_in_one_folder(start, begun):
    first = start(begun)
    second = start(begun) if wait_for(begun / ".lock", first) else None
    code, _, stderr = finish(second)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"is being written by process {first.pid} on " in stderr
    assert "experiments/pipeline.py --preset smoke" in stderr
    first.kill()
    finish(first)
    third = start(begun)
    assert wait_for(begun / "members" / ".wide_cnn-0.lock", third)  # the lock of the dead one is free
    third.kill()
    finish(third)


def test_damage_is_seen_wherever_it_is(start, whole, tmp_path):
    out = tmp_path / "damaged"
    shutil.copytree(whole, out)
    for path in ("predictions/senet-0/test.npz", "pseudo_labels/selected.npz", "ensemble/submission.csv"):
        flip(out / path)
    flip(out / "submission.csv")
    code, _, stderr = finish(start(out))
    assert code == 0
    assert sorted(line.partition(": ")[0] for line in stderr.splitlines()) == ["warning"] * 3
    assert_same_answers(out, whole)
    flip(out / "members" / "senet-0" / "metrics.csv")
    code, _, stderr = finish(start(out))
    assert (code, stderr.count("\n")) == (2, 1)
    assert "senet-0/metrics.csv: was changed after it was written. Fix: delete the folder" in stderr


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_without_test_labels_the_answers_are_written_all_the_same(whole, tmp_path, capsys):
    digits = load("digits")
    path, out = tmp_path / "unlabelled.npz", tmp_path / "out"
    np.savez(path, x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test)
    shutil.copytree(whole, out)
    for name in ("report.json", "submission.csv"):
        (out / name).unlink()
    main(ScoreOptions(preset="smoke", data=str(path), out=out, compilation_cache=False))
    report = json.loads((out / "report.json").read_text())
    assert report["ensemble"]["test_accuracy"] is None
    assert [member["test_accuracy"] for member in report["members"]] == [None] * 6
    assert (out / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()
    assert "test accuracy unknown" in capsys.readouterr().out


@pytest.fixture(scope="module")
def published(whole, tmp_path_factory):
    """Folders of the pipeline's networks as `publish` leaves them."""
    out = tmp_path_factory.mktemp("published")
    publish.main(publish.PublishOptions(jobs=(whole,), out=out))
    return sorted(out.iterdir())


@pytest.fixture
def score(tmp_path):
    """score(folders, **options) -> the report of `evaluate --runs`."""

    def call(folders, **options):
        given = {"data": "digits", "views": 3, "runs": tuple(folders), "compilation_cache": False, "devices": 1}
        evaluate.main(EvaluateOptions(**(given | options), out=tmp_path))
        return json.loads((tmp_path / "report.json").read_text())

    return call


@pytest.mark.usefixtures("quick_compilation")
def test_published_networks_answer_as_the_job_did(whole, published, score, tmp_path):
    report, before = score(published), json.loads((whole / "report.json").read_text())
    told = {member["family"]: member for member in before["members"] if not member["student"]}
    keys = ("valid_accuracy", "tta_valid_accuracy", "test_accuracy", "tta_test_accuracy", "parameters", "train_seconds")
    for member in report["members"]:
        assert {key: member[key] for key in keys} == {key: told[member["family"]][key] for key in keys}
    assert set(report) == set(before)
    assert report["ensemble"]["test_accuracy"] == before["ensemble"]["inductive_test_accuracy"]
    wrong = round((1 - report["ensemble"]["test_accuracy"]) * 359)
    assert len((tmp_path / "mistakes.csv").read_text().splitlines()) == 1 + wrong


def test_pictures_show_where_it_fails(whole):
    pictures = {"confusion", "missed", "members", "disagreement", "reliability"}
    assert {path.stem for path in whole.glob("*.png")} == pictures
    assert min(path.stat().st_size for path in whole.glob("*.png")) > 5_000


def test_what_is_published_says_how_it_was_made(published):
    result = json.loads((published[0] / "result.json").read_text())
    assert result["command"] == "python -m experiments.pipeline --preset smoke --data digits --seed 0"
    assert list(result["test_accuracies_by_seed"].values()) == [result["test_accuracy"]] == [result["mean"]]
    assert {path.name for path in published[0].iterdir()} == {
        *("config.json", "metrics.csv", "result.json", "seal.json", "train_rows.npy", "weights.npz")
    }


def test_nothing_published_is_overwritten(whole, published):
    with pytest.raises(InputError, match="is there already"):
        publish.main(publish.PublishOptions(jobs=(whole,), out=published[0].parent))
    with pytest.raises(InputError, match="the same network twice"):
        publish.main(publish.PublishOptions(jobs=(whole, whole), out=whole / "twice"))


def test_jobs_of_other_settings_are_not_published_together(whole, tmp_path):
    for name in ("report.json", "job.json"):
        shutil.copy(whole / name, tmp_path)
    job = json.loads((tmp_path / "job.json").read_text())
    job["preset"]["views"] += 1
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(InputError, match="other settings"):
        publish.main(publish.PublishOptions(jobs=(whole, tmp_path), out=tmp_path / "out"))


@pytest.mark.usefixtures("quick_compilation")
def test_networks_for_other_images_are_not_scored(published, score, tmp_path):
    images, labels = np.zeros((20, 9, 9), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "large.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(InputError, match=r"classes of \(8, 8, 1, 10\), the data large has \(9, 9, 1, 2\)"):
        score(published[:1], data=str(tmp_path / "large.npz"))


@pytest.mark.usefixtures("quick_compilation")
def test_an_ensemble_of_other_networks_is_made_anew(whole, tmp_path):
    out = tmp_path / "job"
    shutil.copytree(whole, out)
    options = EnsembleOptions(preset="smoke", data="digits", out=out, compilation_cache=False)
    shutil.rmtree(out / "members" / "senet-0")
    ensemble.main(options)
    summary = json.loads((out / "ensemble" / "summary.json").read_text())
    assert (len(summary["members"]), len(summary["weights"])) == (5, 5)
    answers = np.load(out / "ensemble" / "log_probs_test.npz")["log_probs"].argmax(axis=1)
    np.testing.assert_array_equal(read_submission(out / "submission.csv"), answers)
    evaluate.main(EvaluateOptions(preset="smoke", data="digits", out=out, compilation_cache=False))
    report = json.loads((out / "report.json").read_text())
    assert len(report["members"]) == 5
    assert report["total_seconds"] > 0  # the pipeline, which takes this report up, shows it
    assert report["ensemble"]["test_accuracy"] == (answers == load("digits").y_test).mean()


@pytest.mark.usefixtures("quick_compilation")
def test_no_network_is_scored_on_what_it_was_trained_on(published, score, tmp_path):
    digits = load("digits")
    leaky = tmp_path / "leaky.npz"
    images = np.concatenate([digits.x_test, digits.x_train[:400]])
    labels = np.concatenate([digits.y_test, digits.y_train[:400]])
    np.savez(leaky, x_train=digits.x_train, y_train=digits.y_train, x_test=images, y_test=labels)
    with pytest.raises(InputError, match=r"was trained on \d+ of the 759 test images"):
        score(published[:1], data=str(leaky))
    with pytest.raises(InputError, match=r"has \d+ test images among its training images"):
        main(ScoreOptions(preset="smoke", data=str(leaky), out=tmp_path / "job", compilation_cache=False))
    assert not (tmp_path / "job").exists()
    report = score(published[:1], data=str(leaky), allow_trained_rows=True)
    assert 300 < report["trained_rows_scored"] <= 400


@pytest.mark.usefixtures("quick_compilation")
def test_a_network_that_does_not_say_what_it_was_trained_on_is_not_scored(published, score, tmp_path):
    silent = tmp_path / "silent"
    shutil.copytree(published[0], silent)
    (silent / "train_rows.npy").unlink()
    (silent / "seal.json").unlink()
    with pytest.raises(InputError, match="does not say which images it was trained on"):
        score([silent])
    report = score([silent], allow_trained_rows=True)
    assert (report["valid_rows"], report["trained_rows_scored"]) == (0, None)
    assert report["members"][0]["valid_accuracy"] is report["ensemble"]["temperature"] is None
