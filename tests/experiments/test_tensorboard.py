import csv
import importlib.util
import io
import sys
import threading

import pytest
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments import train_scratch
from experiments.cli import console
from experiments.cli.console import Level
from experiments.cli.options import run
from experiments.cli.tensorboard import event_file
from experiments.train_scratch import ScratchOptions, main
from jaxnets.errors import InputError
from tests.experiments.processes import TRAIN, finish


def events(folder):
    """The events in the files of a directory, oldest file first: TFRecords, whose checksums are ignored."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def scalars(folder):
    values = [(event.step, value) for event in events(folder) for value in event.summary.value]
    return {(step, value.tag): value.simple_value for step, value in values}


def metrics(path):
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return {(int(row["epoch"]), name): float(row[name]) for row in rows for name in row if name != "epoch"}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*arguments) -> exit code, stdout, stderr of a training in NumPy on tiny digits."""
    monkeypatch.setattr(console, "level", Level.NORMAL)  # restored after the test

    def begin(*arguments):
        given = ["--recipe", "tuned", "--data", "digits", "--out", str(tmp_path / "out"), *arguments]
        monkeypatch.setattr(sys, "argv", ["train_scratch", *given])
        try:
            run(main, ScratchOptions)
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return begin


def test_event_files_of_scratch_have_the_numbers_of_metrics_csv(call, tmp_path):
    assert call("--tensorboard", "--quiet")[0] == 0
    wanted = metrics(tmp_path / "out" / "seed-0" / "metrics.csv")
    assert len(wanted) == 4 * 20
    assert scalars(tmp_path / "out" / "tensorboard" / "seed-0") == pytest.approx(wanted, rel=1e-6)


def test_event_files_and_verbose_output_have_the_numbers_of_metrics_csv(start, tmp_path):
    code, stdout, stderr = finish(start(*TRAIN, tmp_path, "--tensorboard", "--verbose"))
    assert (code, stderr) == (0, "")
    wanted = metrics(tmp_path / "members" / "wide_cnn-0" / "metrics.csv")
    assert scalars(tmp_path / "tensorboard" / "wide_cnn-0") == pytest.approx(wanted, rel=1e-6)
    norm = next(value for (epoch, name), value in wanted.items() if name == "gradient_norm")
    assert f"gradient_norm {norm:.5g}" in stdout


def test_a_resumed_training_supersedes_the_events_of_the_same_epochs(tmp_path):
    for first in (1, 3):
        with event_file(tmp_path, wanted=True) as write:
            for epoch in range(first, first + 4):
                write({"epoch": epoch, "loss": 1 / epoch})
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [1, 3]


def test_a_file_in_place_of_the_directory_is_an_error_before_any_training(call, tmp_path, monkeypatch):
    monkeypatch.setattr(train_scratch, "fit", lambda *arguments, **named: pytest.fail("a training has begun"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tensorboard").touch()
    code, _, stderr = call("--tensorboard")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "out/tensorboard/seed-0: cannot be written (Not a directory" in stderr


def test_a_full_disk_is_an_error_in_one_line(tmp_path, monkeypatch):
    """Writing to /dev/full fails as on a full disk."""
    monkeypatch.setattr(record_writer, "open_file", lambda path: io.BufferedWriter(io.FileIO("/dev/full", "w")))
    full = pytest.raises(InputError, match=r"cannot be written \(No space left")
    with full, event_file(tmp_path, wanted=True) as write:
        write({"epoch": 1, "loss": 0.5})
    assert threading.active_count() == 1


def test_event_files_are_optional(call, tmp_path):
    assert call()[0] == 0
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_a_missing_tensorboardx_is_an_error_before_anything_is_written(call, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, stdout, stderr = call("--tensorboard")
    assert (code, stdout) == (2, "")
    assert stderr == (
        "error: --tensorboard: needs tensorboardX, which is not installed. Fix: pip install -e '.[tensorboard]'.\n"
    )
    assert not (tmp_path / "out").exists()


def test_quiet_prints_the_last_line_only(call):
    code, stdout, stderr = call("--quiet")
    assert (code, stdout.count("\n"), stderr) == (0, 1, "")
    assert stdout.startswith("test accuracy 9")
    assert "report.html" in stdout
    assert call("--seeds", "2")[1].count("\n") > 5  # without --quiet the second network prints its progress


def test_quiet_and_verbose_cannot_be_combined(call, tmp_path):
    code, stdout, stderr = call("--quiet", "--verbose")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("error: --quiet: ")
    assert not (tmp_path / "out").exists()
