"""Experiments as processes, on tiny models: starting, waiting, stopping, and comparing their results."""

import subprocess
import time
from pathlib import Path

import numpy as np

SMOKE = ("--preset", "smoke", "--data", "digits", "--out")
PIPELINE = ("-m", "experiments.pipeline", *SMOKE)
TRAIN = ("-m", "experiments.train", "--family", "wide_cnn", *SMOKE)


def finish(process):
    stdout, stderr = process.communicate(timeout=280)
    return process.returncode, stdout, stderr


def wait_for(path, process):
    """Wait until `path` exists -> whether the process is still running."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    return process.poll() is None


def signal_when(process, path, *numbers):
    """Send the signals as soon as `path` exists -> exit code and stderr."""
    assert wait_for(path, process), f"ended before {path} was seen"
    for number in numbers:
        process.send_signal(number)
    code, _, stderr = finish(process)
    return code, stderr


def workers_of(process):
    """The process IDs of its children, oldest first."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True)
    return sorted(map(int, found.stdout.split()))


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_submission(path):
    """The predicted classes in a submission, in the order of their ids."""
    return np.loadtxt(path, int, delimiter=",", skiprows=1)[:, 1]


def assert_same_predictions(out, whole):
    for path in ("submission.csv", "pseudo_labels/summary.json", "pseudo_labels/selected.npz"):
        assert (out / path).read_bytes() == (whole / path).read_bytes(), path
    for name in ("valid", "test"):
        one, other = (np.load(folder / "ensemble" / f"log_probs_{name}.npz")["log_probs"] for folder in (out, whole))
        np.testing.assert_array_equal(one, other)
    assert not list(out.rglob(".*"))
    kept = [{path for path in files(folder) if "state" not in path.parts} for folder in (out, whole)]
    assert kept[0] == kept[1]
