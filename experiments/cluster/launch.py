"""Starts the processes of one job on this machine, and watches them: when one dies or stands still, all are ended, and
a line says which and why. The same command, with fewer processes if need be, goes on from there.

    python -m experiments.cluster.launch --processes 2 --devices-each 1 -- \\
        python -m experiments.pipeline --preset competition
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.cli.exit_codes import (
    LOST,
    again,
    deferred,
    leash,
    leave,
    on_stop,
    received,
    record,
    signal_name,
    supervised,
)
from experiments.cli.options import run
from jaxnets.errors import InputError

GRACE = 30.0
"""Seconds that a process has for its last save when all are to stop."""
PATIENCE = 10
"""Times as long as for a step may pass where none is made: while a process starts, compiles, or waits for answers."""

Pulses = dict[str, tuple[int, float]]
"""By process: when its heartbeat changed, in nanoseconds of the system's clock, and when that was seen, by `Clock`."""


class Clock:
    """Seconds in which this process ran. While it is stopped itself, as when a scheduler suspends the job, nothing else
    is expected to run: of the time between two readings at most one second counts."""

    def __init__(self) -> None:
        self.seconds, self.last = 0.0, time.monotonic()

    def read(self) -> float:
        now = time.monotonic()
        self.seconds += min(now - self.last, 1.0)
        self.last = now
        return self.seconds


class Stall(NamedTuple):
    """Which process, and for how many seconds at least."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    processes: int = 2
    """How many to start; each loads the data itself, and process 0 writes."""
    devices_each: int | None = None
    """GPUs of a process: the first has 0 to N - 1, and so on. All see all unless given."""
    stall: float = 60.0
    """Seconds without a training step after which a process is lost; ten times as many where it does not train."""


def start(options: LaunchOptions, command: list[str], stdin: int, folder: Path) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    workers = []
    for number in range(options.processes):
        mine = ["--coordinator", address, "--processes", f"{options.processes}", "--process-id", f"{number}"]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2"}  # XLA tells of every signal
        pulse = folder / str(number)
        pulse.touch()
        environment = quiet | os.environ | supervised(stdin, pulse)
        if options.devices_each is not None:
            first = number * options.devices_each
            environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(first, first + options.devices_each)))
        workers.append(subprocess.Popen([*command, *mine], env=environment, stdin=stdin, start_new_session=True))
    return workers


def watch(workers: list[subprocess.Popen[bytes]], folder: Path, stall: float) -> tuple[int, str]:
    """-> an exit code and why, as soon as one of the workers ends otherwise than well, or stands still, or this process
    is told to stop; 0 once all have ended well."""
    seen: Pulses = {}
    begun, clock = False, Clock()
    while not received:
        stands = stalled(folder, seen, stall, clock.read())
        begun = begun or any(path.stat().st_size for path in folder.iterdir())
        codes = [worker.poll() for worker in workers]
        ended = [(code in (1, LOST), number, code) for number, code in enumerate(codes) if code]
        if ended:  # one that ended with 1 or 75 may have done so because it lost another
            _, number, code = min(ended)
            told = f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
            own = code in (2, 3, 128 + signal.SIGPIPE)
            own = own or (code == 1 and not begun)  # no step was made: nobody can have been lost
            return (code if own else LOST), f"process {number} ended with {told}"
        if codes == [0] * len(workers):
            return 0, ""
        for done in (number for number, code in enumerate(codes) if code == 0):
            (folder / str(done)).unlink(missing_ok=True)
        if stands is not None:
            return LOST, f"process {stands.name} has not finished a step for {stands.seconds:.0f} s"
        time.sleep(0.1)
    return 128 + received[0], "told to stop"


def stalled(folder: Path, seen: Pulses, limit: float, now: float) -> Stall | None:
    """-> the process whose heartbeat, a file in `folder`, has not changed for `limit` seconds since it was first `seen`
    so, or, if the file is empty as the process makes no steps, for PATIENCE times as long. `now` is a `Clock`'s."""
    found, still = {}, []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # of one that has just ended
            pulse, before = path.stat(), seen.get(path.name, (0, 0.0))
            found[path.name] = before if pulse.st_mtime_ns == before[0] else (pulse.st_mtime_ns, now)
            allowed = limit if pulse.st_size else PATIENCE * limit
            if now - found[path.name][1] > allowed:
                still.append((pulse.st_mtime_ns, Stall(path.name, allowed)))
    seen.clear()
    seen.update(found)
    return min(still)[1] if still else None  # the others soon wait for it: theirs are the younger pulses


def end(workers: list[subprocess.Popen[bytes]], *, grace: float) -> None:
    """Asks the workers to end, and ends them after `grace` seconds or at a second signal."""
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGTERM if grace else signal.SIGKILL)
    clock = Clock()
    while clock.read() < grace and len(received) < 2 and any(worker.poll() is None for worker in workers):
        time.sleep(0.1)
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def refuse(options: LaunchOptions, command: list[str]) -> None:
    """InputError where nothing can be started so."""
    if options.processes < 1:
        raise InputError("--processes", f"is {options.processes}", "give a whole number of at least 1")
    if not options.stall > 0:
        raise InputError("--stall", f"is {options.stall}", "give a number of seconds above 0")
    if options.devices_each is not None and options.devices_each < 1:
        raise InputError("--devices-each", f"is {options.devices_each}", "give a whole number of at least 1")
    if not command:
        raise InputError("--", "no command is given", "put it behind --, for instance python -m experiments.pipeline")
    if shutil.which(command[0]) is None:
        raise InputError(command[0], "is no program", "put one behind --, for instance python -m experiments.pipeline")


def main(options: LaunchOptions, command: list[str]) -> None:
    refuse(options, command)
    on_stop(record)
    with tempfile.TemporaryDirectory() as folder, deferred(), leash() as stdin:
        try:
            workers = start(options, command, stdin, Path(folder))
        except OSError as error:
            raise InputError(command[0], f"cannot be started ({error.strerror})", "name a program") from error
        try:
            code, why = watch(workers, Path(folder), options.stall)
        finally:
            end(workers, grace=GRACE if received else 0.0)
    if code in (1, 2):  # the same would happen again
        leave(code, f"launch: {why}, see above; all have ended")
    if code:
        leave(code, f"launch: {why}; all have ended. What was saved is kept; go on with\n{again()}")


if __name__ == "__main__":
    place = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv, behind = sys.argv[:place], sys.argv[place + 1 :]
    run(lambda options: main(options, behind), LaunchOptions)
