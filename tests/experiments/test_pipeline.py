import json
import shlex
import shutil
import signal

import numpy as np

from experiments.pipeline import PipelineOptions, main
from jaxnets.data import load
from jaxnets.store.lock import locked
from tests.experiments.processes import (
    PIPELINE,
    assert_same_predictions,
    files,
    finish,
    read_submission,
    signal_when,
    wait_for,
)

MEMBER = {
    *("family", "seed", "parameters", "valid_accuracy", "test_accuracy", "tta_valid_accuracy"),
    *("train_seconds", "compile_seconds", "images_per_second"),
}
REPORT = {"data", "preset", "device", "jax_version", "seed", "members", "ensemble", "pseudo_labels", "total_seconds"}


def test_the_report_is_complete(whole):
    report = json.loads((whole / "report.json").read_text())
    assert set(report) >= REPORT
    assert [set(member) >= MEMBER for member in report["members"]] == [True] * 6
    assert set(report["ensemble"]) >= {"valid_accuracy", "tta_valid_accuracy", "test_accuracy"}
    assert set(report["pseudo_labels"]) >= {"selected", "threshold", "agreement"}
    assert report["ensemble"]["test_accuracy"] > 0.8
    assert report["pseudo_labels"]["selected"] > 0
    assert not list(whole.rglob(".*"))


def test_the_submission_has_the_predictions_of_the_ensemble(whole):
    log_probs = np.load(whole / "ensemble" / "log_probs_test.npz")["log_probs"]
    labels = read_submission(whole / "submission.csv")
    assert labels.shape == (359,)
    np.testing.assert_array_equal(labels, log_probs.argmax(axis=1))
    report = json.loads((whole / "report.json").read_text())
    assert (labels == load("digits").y_test).mean() == report["ensemble"]["test_accuracy"]


def test_a_second_start_changes_nothing(start, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "again")
    before = files(out)
    for leftover in (".report.json.1.0123abcd.tmp", "predictions/.senet-0.1.0123abcd.tmp"):
        (out / leftover).touch()
    code, stdout, stderr = finish(start(*PIPELINE, out))
    assert (code, stderr) == (0, "")
    assert "epoch" not in stdout
    assert files(out) == before


def test_stopped_and_killed_pipelines_end_in_identical_results(start, whole, begun):
    locked, training = (begun / "members" / f".wide_cnn-0.{name}" for name in ("lock", "unfinished"))
    for path, number in ((training / "state", signal.SIGTERM), (locked, signal.SIGINT)):
        code, stderr = signal_when(start(*PIPELINE, begun), path, number)
        assert code == 128 + number
        message, command = stderr.splitlines()
        assert message == "stopped: what was saved is kept; continue with"
    code, stderr = signal_when(start(*PIPELINE, begun), locked, signal.SIGTERM, signal.SIGTERM)
    # If the second one finds the program at its very end, it dies of it; a shell sees 143 for both.
    assert code in (128 + signal.SIGTERM, -signal.SIGTERM)
    for path in (training / "state" / "80", begun / "pseudo_labels"):
        assert signal_when(start(*PIPELINE, begun), path, signal.SIGKILL)[0] == -signal.SIGKILL
    code, _, stderr = finish(start(*shlex.split(command)[1:]))
    assert (code, stderr) == (0, "")
    assert_same_predictions(begun, whole)


def test_a_second_pipeline_in_the_same_directory_is_an_error(start, begun):
    first = start(*PIPELINE, begun)
    second = start(*PIPELINE, begun) if wait_for(begun / ".lock", first) else None
    code, _, stderr = finish(second)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"is being written by process {first.pid} on " in stderr
    assert "experiments/pipeline.py --preset smoke" in stderr
    first.kill()
    finish(first)
    with locked(begun / ".lock"):  # the lock of the killed one is free
        pass


def test_damage_is_found_in_every_stage(start, whole, tmp_path):
    out = tmp_path / "damaged"
    shutil.copytree(whole, out)
    for path in ("predictions/senet-0/test.npz", "pseudo_labels/selected.npz", "ensemble/submission.csv"):
        flip(out / path)
    flip(out / "submission.csv")
    code, _, stderr = finish(start(*PIPELINE, out))
    assert code == 0
    assert sorted(line.partition(": ")[0] for line in stderr.splitlines()) == ["warning"] * 3
    assert_same_predictions(out, whole)
    flip(out / "members" / "senet-0" / "metrics.csv")
    code, _, stderr = finish(start(*PIPELINE, out))
    assert (code, stderr.count("\n")) == (2, 1)
    assert "senet-0/metrics.csv: was changed after it was written. Fix: delete the folder" in stderr


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_without_test_labels_the_submission_is_written(whole, tmp_path, capsys):
    digits = load("digits")
    path, out = tmp_path / "unlabelled.npz", tmp_path / "out"
    np.savez(path, x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test)
    shutil.copytree(whole, out)
    for name in ("report.json", "submission.csv"):
        (out / name).unlink()
    main(PipelineOptions(preset="smoke", data=str(path), out=out, compilation_cache=False))
    report = json.loads((out / "report.json").read_text())
    assert report["ensemble"]["test_accuracy"] is None
    assert [member["test_accuracy"] for member in report["members"]] == [None] * 6
    assert (out / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()
    assert "test accuracy unknown" in capsys.readouterr().out
