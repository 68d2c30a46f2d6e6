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
from contextlib import contextmanager
from types import FrameType

from jaxnets.errors import DivergedError, InputError, printable

LOST = 75
PULSE = "JAXNETS_PULSE"
"""Names the file into which a process writes at every step how far it is, where another one started it and watches."""

SURROUNDINGS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENAMETOOLONG", "ENOEXEC")
}
"""Errors of a disk that is full or broken, of a file or folder that is closed to us, of too many open ones."""

received: list[int] = []
"""Signals to end, so far; the first waits for the end of a training step, see `deferred`."""
waiting = False
alone = True
"""Whether this process works by itself, see `together`."""


class Stopped(BaseException):
    """The program was asked to end, by this signal."""


def handle(number: int, frame: FrameType | None) -> None:
    """The first signal ends the program in good order, the second one at once."""
    if received:
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # the cursor, which the live line hides
        os._exit(128 + number)
    received.append(number)
    if not waiting:
        raise Stopped(number)


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


def follow() -> None:
    """Ends this process at once when the one that holds its leash has gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(LOST)


@contextmanager
def in_one_line(*, resumes: bool) -> Iterator[None]:
    """Turns what ends the program early into a line and an exit code; `resumes` says whether the same command would go
    on from where it was."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a name that the encoding lacks ends the program
            stream.reconfigure(errors="backslashreplace")
    if PULSE in os.environ:
        threading.Thread(target=follow, daemon=True).start()
    warnings.showwarning = lambda message, *rest: print(printable(f"warning: {message}"), file=sys.stderr, flush=True)
    try:
        yield
    except InputError as error:
        leave(2, f"error: {error}")
    except DivergedError as error:
        leave(3, f"error: {error}. What was saved before is kept. Fix: a lower learning rate, or other data.")
    except Stopped as stop:
        what = "what was saved is kept; go on with" if resumes else "nothing of it is kept; begin anew with"
        leave(128 + stop.args[0], "" if PULSE in os.environ else f"stopped: {what}\n{again()}")
    except BrokenPipeError:  # whoever read the output has gone, `| head` for instance
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in SURROUNDINGS:
            if error.filename is None:  # what is written to, stdout for one, is not tried again in the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            place = printable(str(error.filename or "a file or the output"))
            leave(2, f"error: {place}: {error.strerror}. Fix: see to it, then start the same again.")
        if not alone and type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
            leave(
                LOST, f"error: another process is gone ({' '.join(str(error).split())[:80]} ...). Fix: start all again."
            )
        traceback.print_exc()
        leave(1, "error: this should not have happened. Fix: report it, with the lines above.")


def leave(code: int, text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)
    if not alone:
        os._exit(code)  # in good order it would wait for processes that wait for this one
    sys.exit(code)


def again() -> str:
    """This program's command line, to be run in the same folder."""
    return shlex.join([sys.executable, *sys.orig_argv[1:]])
