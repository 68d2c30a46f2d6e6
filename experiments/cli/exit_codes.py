"""How a program ends: one line on stderr that says what to do, and an exit code, which docs/RELIABILITY.md lists."""

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
from typing import NoReturn, TypeGuard

from jaxnets.errors import DivergedError, InputError, printable

LOST = 75
"""Exit code if another process is lost: the same command may succeed (EX_TEMPFAIL)."""
HEARTBEAT_VARIABLE = "JAXNETS_PULSE"
"""Environment variable of a worker: its stdin and its heartbeat file, see `heartbeat_variable`."""
INVALID_CALLS = (errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ESRCH)
"""Error numbers of system calls with wrong arguments: errors of the program, unless they name a file."""
EXHAUSTED = ("RESOURCE_EXHAUSTED: Out of memory", "failed to map segment from shared object", "can't start new thread")
"""Parts of messages about lack of memory or threads that have no exception type: from XLA, imports, Python."""

heartbeat: Path | None = None
"""The file in which this process reports its progress, if another process supervises it. `in_one_line` sets it."""
single_process = True
"""Whether this process computes without others, see `distributed.join`."""
received: list[int] = []
"""The signals to stop so far."""
is_deferring = False
"""Whether a signal waits for the end of a training step, see `deferred`."""


class Stopped(BaseException):
    """This signal asks the program to stop."""


def on_stop(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Handle the signals to stop, except those that are ignored already: by nohup, or in a script's background job."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def record_signal(number: int, frame: FrameType | None) -> bool:
    """Record a signal and return whether it is a new one.

    A terminal that closes sends SIGHUP twice, and systemd sends SIGTERM and SIGHUP.
    """
    if number == signal.SIGHUP:
        for stream in (1, 2):
            try:
                os.write(stream, b"")
            except OSError:  # the terminal is closed: printing while the state is saved must not fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        if received:
            return False
    received.append(number)
    return True


def on_signal(number: int, frame: FrameType | None) -> None:
    """Stop the program: in good order at the first signal, immediately at the second."""
    if not record_signal(number, frame):
        return
    if len(received) > 1:
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h")  # show the cursor, which the live line hides
        os._exit(128 + number)
    if not is_deferring:
        raise Stopped(number)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL, or its number if it has no name."""
    return next((known.name for known in signal.Signals if known == number), str(number))


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yield should_stop(), and defer the first signal to the end of the block, where it raises Stopped."""
    global is_deferring
    is_deferring = True
    try:
        yield lambda: bool(received)
    finally:
        is_deferring = False
    if received:
        raise Stopped(received[0])


@contextmanager
def parent_death_pipe() -> Iterator[int]:
    """Yield a file descriptor for the stdin of workers: it closes when this process ends, even by kill -9.

    The workers then end themselves. A signal to their process group would not suffice: after a kill -9 nobody sends it.
    """
    read_end, write_end = os.pipe()
    try:
        yield read_end
    finally:
        os.close(read_end)
        os.close(write_end)


def file_id(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def heartbeat_variable(stdin: int, file: Path) -> dict[str, str]:
    """Return the environment variable of a worker with that stdin, a parent-death pipe, and that heartbeat file."""
    return {HEARTBEAT_VARIABLE: f"{file_id(stdin)} {file}"}


def take_heartbeat() -> Path | None:
    """Return this process's heartbeat file, if it is a supervised worker, and unset the variable.

    A process that merely inherits the variable, such as the background job of a supervised script, has another stdin.
    """
    stdin, _, path = os.environ.pop(HEARTBEAT_VARIABLE, "").partition(" ")
    with suppress(OSError):  # stdin is closed
        return Path(path) if stdin and stdin == file_id(0) else None
    return None


def exit_when_parent_dies() -> None:
    """Wait until the parent-death pipe closes, and end this process immediately."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(LOST)


@contextmanager
def in_one_line(*, resumes: bool) -> Iterator[None]:
    """Turn exceptions, signals and warnings within the block into one line on stderr and an exit code.

    `resumes` tells whether the same command continues where the program was stopped.
    """
    prepare_process()
    try:
        yield
    except (Exception, Stopped) as error:
        exit_for(error, resumes=resumes)
    finally:
        on_stop(signal.SIG_DFL)  # nothing is left to save


def prepare_process() -> None:
    """Install the handlers of signals, warnings and the parent's death."""
    global heartbeat
    heartbeat = take_heartbeat()
    on_stop(on_signal)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a character that the encoding lacks ends the program
            stream.reconfigure(errors="backslashreplace")
    if heartbeat is not None:
        threading.Thread(target=exit_when_parent_dies, daemon=True).start()
    warnings.showwarning = lambda message, *rest: print(printable(f"warning: {message}"), file=sys.stderr, flush=True)
    sys.unraisablehook = report_unraisable


def exit_for(error: Exception | Stopped, *, resumes: bool) -> NoReturn:
    """Print what to do after this exception, and exit."""
    if isinstance(error, InputError):
        exit_with(2, f"error: {error}")
    if isinstance(error, DivergedError):
        exit_with(3, f"error: {error}. What was saved before is kept. Fix: a lower learning rate, or other data.")
    if isinstance(error, Stopped):
        what = "what was saved is kept; continue with" if resumes else "nothing is kept; start again with"
        exit_with(128 + error.args[0], "" if heartbeat is not None else f"stopped: {what}\n{resume_command()}")
    if isinstance(error, BrokenPipeError):  # the reader of the output is gone, `| head` for instance
        discard_stdout()
        sys.exit(128 + signal.SIGPIPE)
    if (machine := machine_error(error)) is not None:
        if is_environmental(error) and error.filename is None:
            discard_stdout()  # it may be what cannot be written to: Python would try again at its end
        exit_with(2, f"error: {machine}")
    text = " ".join(str(error).split())
    if not single_process and type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
        exit_with(LOST, f"error: another process is lost ({text[:80]} ...). Fix: start all again.")
    if is_setting_of_jax(error):
        problem = f"environment: JAX rejects the value of a variable ({text})"
        exit_with(2, printable(f"error: {problem}. Fix: correct or unset it."))
    traceback.print_exception(error)
    exit_with(1, "error: this is a bug. Fix: report it, with the lines above.")


def discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def machine_error(error: Exception) -> InputError | None:
    """Return what to tell the user if the machine caused the error: its files, its memory, its limits."""
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
    """Report exceptions that Python ignores, but for two: what orbax' threads report after a failed save, as its event
    loop is closed before their writes end, and a signal that arrives during a garbage collection, which comes again."""
    if isinstance(unraisable.exc_value, Stopped):
        again = threading.Timer(0.01, os.kill, (os.getpid(), received.pop()))
        again.daemon = True
        again.start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def is_environmental(error: Exception) -> TypeGuard[OSError]:
    """Return whether the operating system refused a valid call. OSErrors that Python itself raises have no number."""
    if not isinstance(error, OSError) or not error.errno:
        return False
    return error.filename is not None or error.errno not in INVALID_CALLS


def is_setting_of_jax(error: Exception) -> bool:
    """Return whether JAX rejects an environment variable, which it reads when it is imported."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, ValueError) and frame.f_globals.get("__name__") == "jax._src.config"


def exit_with(code: int, text: str) -> NoReturn:
    """Print the text on stderr and exit. One of several processes exits at once, else it would wait for the others."""
    if text:
        with suppress(OSError):  # a log file on a full disk: the exit code still counts
            print(text, file=sys.stderr, flush=True)
    if not single_process:
        os._exit(code)
    sys.exit(code)


def resume_command() -> str:
    """Return the command line of this program, to be run in the same directory."""
    return shlex.join([sys.executable, *sys.orig_argv[1:]])
