import errno
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from experiments import ending
from experiments.ending import Stopped, deferred, handle, in_one_line
from jaxnets.errors import DivergedError, InputError


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Signals and warnings are the process's own: they are put back."""
    monkeypatch.setattr(ending, "received", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "experiments.pipeline", "--out", "a folder"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def leave(error, **options):
    """-> the exit code of a program that ends so."""
    with pytest.raises(SystemExit) as end, in_one_line(**({"resumes": True} | options)):
        raise error
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("a.csv:3", "is short", "mend it"), 2, "error: a.csv:3: is short. Fix: mend it.\n"),
        (DivergedError("senet: loss nan"), 3, "error: senet: loss nan. What was saved before is kept. Fix: a lower"),
        (Stopped(signal.SIGTERM), 143, "stopped: what was saved is kept; go on with\n"),
        (Stopped(signal.SIGINT), 130, "-m experiments.pipeline --out 'a folder'\n"),
        (
            OSError(errno.ENOSPC, "No space left", "a.lock"),
            2,
            "error: a.lock: No space left. Fix: see to it, then start",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "error: a: Permission denied. Fix: "),
        (OSError(errno.EINVAL, "ours"), 1, "error: this should not have happened."),
        (ZeroDivisionError("ours"), 1, "error: this should not have happened. Fix: report it, with the lines above.\n"),
    ],
)
def test_every_end_has_its_code_and_words(capsys, error, code, words):
    assert leave(error) == code
    assert words in capsys.readouterr().err


def test_a_variable_that_jax_refuses_is_named():
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "x"}
    command = [sys.executable, "-m", "experiments.models"]
    root = Path(ending.__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    words = "invalid truth value 'x' for environment 'JAX_ENABLE_COMPILATION_CACHE'"
    assert done.stderr.startswith(f"error: environment: JAX refuses the value of a variable ({words}). Fix: ")


def test_a_program_that_cannot_go_on_says_so(capsys):
    assert leave(Stopped(signal.SIGINT), resumes=False) == 130
    assert "nothing of it is kept; begin anew with" in capsys.readouterr().err


def test_the_first_signal_waits_for_the_step_and_the_second_does_not(monkeypatch):
    monkeypatch.setattr("os._exit", sys.exit)
    seen = []

    def train():
        with deferred() as stopping:
            seen.append(stopping())
            handle(signal.SIGTERM, None)
            seen.append(stopping())

    with pytest.raises(Stopped, match=str(int(signal.SIGTERM))):
        train()
    assert seen == [False, True]
    with pytest.raises(SystemExit, match="130"):
        handle(signal.SIGINT, None)


def test_outside_a_training_a_signal_ends_the_program_at_once():
    with pytest.raises(Stopped):
        handle(signal.SIGINT, None)


def test_a_warning_is_one_line(capsys):
    with in_one_line(resumes=True):
        warnings.showwarning(UserWarning("senet is made anew"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "warning: senet is made anew\n"
