"""How a program ends: a line on stderr that says what to do, and an exit code for schedulers; README has the codes."""

import errno
import io
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeGuard

from jaxnets.errors import DivergedError, InputError, printable

LOST = 75
PULSE = "JAXNETS_PULSE"
"""Environment variable of a supervised process: its stdin and its heartbeat file, see `supervised`."""

OURS = (errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ESRCH)
"""Error numbers of a call that was wrong in itself, unless the error names a file."""

EXHAUSTED = ("RESOURCE_EXHAUSTED: Out of memory", "failed to map segment from shared object", "can't start new thread")
"""Parts of messages about lack of memory or threads, if the error has no type of its own: from XLA, imports, Python."""

heartbeat: str | None = None
"""The file in which this process reports its progress, if the process that started it supervises it."""
received: list[int] = []
"""Signals to end, so far; the first waits for the end of a training step, see `deferred`."""
waiting = False
alone = True
"""Whether this process works by itself, see `together`."""


class Stopped(BaseException):
    """The program was asked to end, by this signal."""


def on_stop(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Handles the signals to stop, except those that this process was started to ignore: by nohup, or as a background
    job of a script."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def record(number: int, frame: FrameType | None) -> bool:
    """Records a signal -> whether it counts: a terminal that closes sends SIGHUP twice, systemd SIGTERM and SIGHUP."""
    if number == signal.SIGHUP:
        for stream in (1, 2):
            try:
                os.write(stream, b"")
            except OSError:  # the closed terminal: what is printed while saving must not fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        if received:
            return False
    received.append(number)
    return True


def handle(number: int, frame: FrameType | None) -> None:
    """The first signal ends the program in good order, the second one at once."""
    if not record(number, frame):
        return
    if len(received) > 1:
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # the cursor, which the live line hides
        os._exit(128 + number)
    if not waiting:
        raise Stopped(number)


def signal_name(number: int) -> str:
    """SIGKILL, for instance; real-time signals have a number only."""
    return next((known.name for known in signal.Signals if known == number), str(number))


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether a signal came: within, one ends nothing, and afterwards it ends the program."""
    global waiting
    waiting = True
    try:
        yield lambda: bool(received)
    finally:
        waiting = False
    if received:
        raise Stopped(received[0])


@contextmanager
def leash() -> Iterator[int]:
    """Yields what is to be the stdin of processes that this one starts: it closes when this one ends, however that
    happens, and they end with it. A signal to their group would not be enough: nobody sends one after a kill -9."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def file_id(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def supervised(stdin: int, file: Path) -> dict[str, str]:
    """The environment variable of a process that is started with the leash `stdin` and is to report in `file`."""
    return {PULSE: f"{file_id(stdin)} {file}"}


def take_heartbeat() -> str | None:
    """-> the heartbeat file, if this process is supervised. It is not if it only inherits the variable and has another
    stdin, as a background job of a supervised script; nothing that it starts inherits the variable."""
    leash, _, path = os.environ.pop(PULSE, "").partition(" ")
    with suppress(OSError):  # stdin is closed
        return path if leash and leash == file_id(0) else None
    return None


def follow() -> None:
    """Ends this process at once when the one that holds its leash has gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(LOST)


@contextmanager
def in_one_line(*, resumes: bool) -> Iterator[None]:
    """Turns what ends the program early into a line and an exit code; `resumes` says whether the same command would go
    on from where it was."""
    global heartbeat
    heartbeat = take_heartbeat()
    on_stop(handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a name that the encoding lacks ends the program
            stream.reconfigure(errors="backslashreplace")
    if heartbeat is not None:
        threading.Thread(target=follow, daemon=True).start()
    warnings.showwarning = lambda message, *rest: print(printable(f"warning: {message}"), file=sys.stderr, flush=True)
    sys.unraisablehook = report_unraisable
    try:
        yield
    except InputError as error:
        leave(2, f"error: {error}")
    except DivergedError as error:
        leave(3, f"error: {error}. What was saved before is kept. Fix: a lower learning rate, or other data.")
    except Stopped as stop:
        what = "what was saved is kept; go on with" if resumes else "nothing of it is kept; begin anew with"
        leave(128 + stop.args[0], "" if heartbeat is not None else f"stopped: {what}\n{again()}")
    except BrokenPipeError:  # whoever read the output has gone, `| head` for instance
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (told := machine_error(error)) is not None:
            if is_environmental(error) and error.filename is None:
                # What is written to, stdout for one, is not tried again in the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            leave(2, f"error: {told}")
        if not alone and type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
            leave(
                LOST, f"error: another process is gone ({' '.join(str(error).split())[:80]} ...). Fix: start all again."
            )
        if is_setting_of_jax(error):
            problem = f"JAX refuses the value of a variable ({' '.join(str(error).split())})"
            leave(2, printable(f"error: environment: {problem}. Fix: correct or unset it."))
        traceback.print_exc()
        leave(1, "error: this should not have happened. Fix: report it, with the lines above.")
    finally:
        on_stop(signal.SIG_DFL)  # nothing is left to save


def machine_error(error: Exception) -> InputError | None:
    """What to tell the user if the machine has caused the error: its files, its memory, its limits."""
    if isinstance(error, OSError) and "No usable temporary directory" in str(error):
        return InputError("TMPDIR", str(error.strerror), "set it to a directory that can be written")
    if isinstance(error, MemoryError) or any(text in str(error) for text in EXHAUSTED):
        problem = " ".join(str(error).split())[:150] or "is exhausted"
        return InputError("memory", problem, "free some or allow more, then run the same command again")
    if is_environmental(error):
        fix = "check the disk, its limits and permissions, then run the same command again"
        return InputError(error.filename or "a file or the output", str(error.strerror), fix)
    return None


def report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Drops what orbax' threads report after a failed save: its event loop is closed before their writes have ended."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def is_environmental(error: Exception) -> TypeGuard[OSError]:
    """Whether the operating system refused a valid call. Python's own OSErrors have no number."""
    return isinstance(error, OSError) and bool(error.errno) and not (error.filename is None and error.errno in OURS)


def is_setting_of_jax(error: Exception) -> bool:
    """Whether JAX raised it when it read the environment variables, which it does when it is imported."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, ValueError) and frame.f_globals.get("__name__") == "jax._src.config"


def leave(code: int, text: str) -> None:
    if text:
        with suppress(OSError):  # of a log file on a full disk: the exit code still counts
            print(text, file=sys.stderr, flush=True)
    if not alone:
        os._exit(code)  # in good order it would wait for processes that wait for this one
    sys.exit(code)


def again() -> str:
    """This program's command line, to be run in the same folder."""
    return shlex.join([sys.executable, *sys.orig_argv[1:]])
