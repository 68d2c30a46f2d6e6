"""Supervises worker processes: starts them, watches their exit codes and heartbeats, and ends them together.

The heartbeat of a worker is a file in which it writes its progress at every step; it is empty while the worker does
not train. Workers end themselves when this process ends, see `parent_death_pipe`.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..cli.exit_codes import deferred, heartbeat_variable, parent_death_pipe, received

GRACE = 30.0
"""Seconds that a worker has to save its state and end."""
IDLE_FACTOR = 10
"""A worker that starts, compiles or predicts may go without a heartbeat so many times as long as one that trains."""


class Clock:
    """Counts the seconds in which this process runs.

    If a scheduler suspends the job, it stops this process and the workers alike. Therefore at most one second counts of
    the time between two readings.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.last = time.monotonic()

    def read(self) -> float:
        now = time.monotonic()
        self.seconds += min(now - self.last, 1.0)
        self.last = now
        return self.seconds


class Stall(NamedTuple):
    """A worker that has not made a step for at least so many seconds."""

    name: str
    seconds: float


class Exit(NamedTuple):
    """A worker that has ended. As in `subprocess`, code -N means that signal N killed it."""

    name: str
    code: int


class Supervisor:
    """The running workers of a program, by name."""

    def __init__(self, directory: Path, stdin: int, stall: float) -> None:
        """Keep heartbeat files in `directory`; `stall` is the seconds that a worker that trains may be without one."""
        self.directory, self.stdin, self.stall = directory, stdin, stall
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.clock = Clock()
        self.last_beats: dict[str, tuple[int, float]] = {}  # a file's time of modification, and when it was first seen

    def start(self, name: str, command: list[str], environment: Mapping[str, str], stdout: int | None = None) -> None:
        """Start a worker in its own process group. Raises OSError if its program cannot be run."""
        heartbeat = self.directory / name
        heartbeat.touch()
        environment = {**environment, **heartbeat_variable(self.stdin, heartbeat)}
        self.workers[name] = subprocess.Popen(
            command, env=environment, stdin=self.stdin, stdout=stdout, start_new_session=True
        )

    def remove_ended(self) -> list[Exit]:
        """Return the workers that have ended since the last call."""
        ended = [Exit(name, code) for name, worker in self.workers.items() if (code := worker.poll()) is not None]
        for name, _ in ended:
            del self.workers[name]
            (self.directory / name).unlink(missing_ok=True)
        return ended

    def progress(self) -> list[str]:
        """Return the last heartbeats of the workers that train."""
        texts = [(self.directory / name).read_text() for name in self.workers]
        return [text for text in texts if text]

    def stalled(self) -> Stall | None:
        """Return the worker whose heartbeat is overdue, if there is one.

        Of several, it is the one with the oldest heartbeat: in distributed training the others wait for it.
        """
        now, overdue = self.clock.read(), []
        for name in self.workers:
            heartbeat = (self.directory / name).stat()
            modified, seen = self.last_beats.get(name, (None, now))
            if modified != heartbeat.st_mtime_ns:
                modified, seen = self.last_beats[name] = heartbeat.st_mtime_ns, now
            allowed = self.stall if heartbeat.st_size else IDLE_FACTOR * self.stall
            if now - seen > allowed:
                overdue.append((modified, Stall(name, allowed)))
        return min(overdue)[1] if overdue else None

    def end(self, grace: float) -> None:
        """Ask the workers to save and end; kill them after `grace` seconds, or at a second signal to this process."""
        for worker in self.workers.values():
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM if grace else signal.SIGKILL)
        clock = Clock()
        while clock.read() < grace and len(received) < 2 and None in [w.poll() for w in self.workers.values()]:
            time.sleep(0.1)
        for worker in self.workers.values():
            if worker.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@contextmanager
def supervise(stall: float, *, grace: float) -> Iterator[Supervisor]:
    """Yield a supervisor, and end its workers afterwards. Raises Stopped after a signal.

    A worker that trains counts as stalled after `stall` seconds without a step. The workers have `grace` seconds to
    save if the block ends without a signal to this process, else GRACE.
    """
    with tempfile.TemporaryDirectory() as directory, deferred(), parent_death_pipe() as stdin:
        supervisor = Supervisor(Path(directory), stdin, stall)
        try:
            yield supervisor
        finally:
            supervisor.end(GRACE if received else grace)
