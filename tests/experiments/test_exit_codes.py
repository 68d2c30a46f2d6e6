import errno
import gc
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.cli import exit_codes
from experiments.cli.exit_codes import Stopped, deferred, in_one_line, on_signal
from jaxnets.errors import DivergedError, InputError
from tests.experiments.conftest import ROOT


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Restore the handlers of signals and warnings."""
    monkeypatch.setattr(exit_codes, "received", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "experiments.pipeline", "--out", "a folder"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_code(error, **options):
    """Return the exit code of a program that raises this error."""
    with pytest.raises(SystemExit) as end, in_one_line(**({"resumes": True} | options)):
        raise error
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("a.csv:3", "is short", "mend it"), 2, "error: a.csv:3: is short. Fix: mend it.\n"),
        (DivergedError("senet: loss nan"), 3, "error: senet: loss nan. What was saved before is kept. Fix: a lower"),
        (Stopped(signal.SIGTERM), 143, "stopped: what was saved is kept; continue with\n"),
        (Stopped(signal.SIGINT), 130, "-m experiments.pipeline --out 'a folder'\n"),
        (
            OSError(errno.ENOSPC, "No space left", "a.lock"),
            2,
            "error: a.lock: No space left. Fix: check the disk, its limits and permissions, then run the same command",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "error: a: Permission denied. Fix: "),
        (OSError(errno.EFBIG, "File too large"), 2, "error: a file or the output: File too large. Fix: "),
        (OSError(errno.ENOSYS, "Function not implemented"), 2, "Function not implemented"),
        (OSError(errno.ESTALE, "Stale file handle", "a"), 2, "error: a: Stale file handle. Fix: "),
        (OSError(errno.EINVAL, "Invalid argument", "a:b"), 2, "error: a:b: Invalid argument. Fix: "),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/a']"),
            2,
            "error: TMPDIR: No usable",
        ),
        (MemoryError(), 2, "error: memory: is exhausted. Fix: free some or allow more"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), 2, "error: memory: RESOURCE_EXHAUSTED"),
        (OSError(errno.EINVAL, "of ours"), 1, "error: this is a bug."),
        (OSError(errno.EBADF, "of ours"), 1, "error: this is a bug."),
        (ProcessLookupError(errno.ESRCH, "of ours"), 1, "error: this is a bug."),
        (OSError("of ours"), 1, "error: this is a bug."),
        (ZeroDivisionError("of ours"), 1, "error: this is a bug. Fix: report it, with the lines above.\n"),
    ],
)
def test_every_end_has_an_exit_code_and_a_message(capfd, error, code, words):
    assert exit_code(error) == code
    assert words in capfd.readouterr().err


def test_the_exit_code_does_not_depend_on_stderr(monkeypatch):
    def full(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=full))
    assert exit_code(InputError("a.csv:3", "is short", "mend it")) == 2


def test_a_variable_that_jax_rejects_is_named():
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "x"}
    command = [sys.executable, "-m", "experiments.tools.list_models"]
    root = Path(exit_codes.__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    words = "invalid truth value 'x' for environment 'JAX_ENABLE_COMPILATION_CACHE'"
    assert done.stderr.startswith(f"error: environment: JAX rejects the value of a variable ({words}). Fix: ")


def test_a_program_that_cannot_resume_says_so(capsys):
    assert exit_code(Stopped(signal.SIGINT), resumes=False) == 130
    assert "nothing is kept; start again with" in capsys.readouterr().err


def test_the_first_signal_is_deferred_and_the_second_is_not(monkeypatch):
    monkeypatch.setattr("os._exit", sys.exit)
    seen = []

    def train():
        with deferred() as should_stop:
            seen.append(should_stop())
            on_signal(signal.SIGTERM, None)
            seen.append(should_stop())

    with pytest.raises(Stopped, match=str(int(signal.SIGTERM))):
        train()
    assert seen == [False, True]
    with pytest.raises(SystemExit, match="130"):
        on_signal(signal.SIGINT, None)


def test_outside_a_training_a_signal_is_not_deferred():
    with pytest.raises(Stopped):
        on_signal(signal.SIGINT, None)


def test_a_warning_is_one_line(capsys):
    with in_one_line(resumes=True):
        warnings.showwarning(UserWarning("senet is computed again"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "warning: senet is computed again\n"


FULL = """
import resource
from pathlib import Path
import numpy as np
from experiments.cli.exit_codes import in_one_line
from jaxnets.store.checkpoint import save

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
arrays = {str(number): np.random.default_rng(number).random(2_000) for number in range(60)}
with in_one_line(resumes=True):
    save(Path("steps"), 1, {"average": arrays}, {})
"""


def test_a_full_disk_during_a_save_is_one_line(tmp_path):
    """Without a filter, orbax and its threads print a hundred lines more."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", FULL]
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    pattern = r"error: steps/1: cannot be written \(File too large; .* free\)\. Fix: .*\n"
    assert (ended.returncode, bool(re.fullmatch(pattern, ended.stderr))) == (2, True), ended.stderr
    assert not list((tmp_path / "steps").iterdir())


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with in_one_line(resumes=True):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.getsignal(signal.SIGTERM) == on_signal
    handlers = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    assert handlers == [signal.SIG_DFL, signal.SIG_IGN, signal.SIG_DFL]


CLOSED = """
import signal, sys
from pathlib import Path
from experiments.cli.console import live_line
from experiments.cli.exit_codes import deferred, in_one_line

with in_one_line(resumes=True), deferred() as should_stop, live_line() as show:
    print("ready", flush=True)
    sys.stdin.read()
    show("epoch 1")
    for _ in range(2):  # the shell forwards it, and the kernel sends it again when the shell ends
        signal.raise_signal(signal.SIGHUP)
    print("saving", flush=True)
    Path(sys.argv[1]).write_text(str(should_stop()))
"""


def test_closing_the_terminal_leaves_time_to_save(tmp_path):
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "saved")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, stderr=terminal, cwd=ROOT)
    os.close(terminal)
    text = b""
    while b"ready" not in text:
        text += os.read(master, 100)
    os.close(master)
    process.communicate(timeout=60)
    assert process.returncode == 129
    assert (tmp_path / "saved").read_text() == "True"


def test_a_signal_during_a_garbage_collection_stops_the_program_once(capsys):
    def callback(phase, info):  # as JAX has one
        gc.callbacks.remove(callback)
        signal.raise_signal(signal.SIGTERM)

    def collect():
        gc.callbacks.append(callback)
        gc.collect()
        threading.Event().wait(60)

    with pytest.raises(SystemExit) as end, in_one_line(resumes=True):
        collect()
    assert end.value.code == 143
    assert capsys.readouterr().err.splitlines()[:-1] == ["stopped: what was saved is kept; continue with"]
