"""Starts the processes of one distributed training on this machine, and watches them. If one dies or stalls, all are
ended, and one line names it. The same command, with fewer processes if necessary, continues from the last save.

    python -m experiments.cluster.launch --processes 2 --devices-each 1 -- \\
        python -m experiments.pipeline --preset competition
"""

import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Annotated

from jaxnets.errors import InputError

from ..cli.exit_codes import LOST, exit_with, on_stop, received, record_signal, resume_command, signal_name
from ..cli.options import default, run
from .supervise import Exit, Supervisor, supervise


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    processes: int = 2
    """Number of processes to start. Each loads the data itself; process 0 writes the results."""
    devices_each: Annotated[int | None, default("every process sees all GPUs")] = None
    """Number of GPUs per process: with N, process 0 uses GPUs 0 to N - 1, and so on."""
    stall: float = 60.0
    """Seconds without a training step after which a process counts as lost; ten times as many while it does not
    train."""


def start(options: LaunchOptions, command: list[str], supervisor: Supervisor) -> None:
    """Start the processes, with a free port of this machine for their coordinator."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for number in range(options.processes):
        arguments = ["--coordinator", address, "--processes", f"{options.processes}", "--process-id", f"{number}"]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}  # else XLA logs every signal
        if options.devices_each is not None:
            first = number * options.devices_each
            environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(first, first + options.devices_each)))
        try:
            supervisor.start(f"{number}", [*command, *arguments], environment)
        except OSError as error:
            raise InputError(command[0], f"cannot be started ({error.strerror})", "name a program") from error


def watch(supervisor: Supervisor) -> tuple[int, str]:
    """Wait for the first process that fails or stalls, or a signal; return an exit code and the reason.

    The exit code is 0 if all processes ended without an error.
    """
    has_trained = False
    while not received:
        stall = supervisor.stalled()
        has_trained = has_trained or bool(supervisor.progress())
        failed = [ended for ended in supervisor.remove_ended() if ended.code]
        if failed:
            return failure(failed, has_trained=has_trained)
        if not supervisor.workers:
            return 0, ""
        if stall is not None:
            return LOST, f"process {stall.name} has not finished a step for {stall.seconds:.0f} s"
        time.sleep(0.1)
    return 128 + received[0], "stopped by a signal"


def failure(failed: list[Exit], *, has_trained: bool) -> tuple[int, str]:
    """Return the exit code for these processes, which failed at the same time, and the reason."""
    # One that ended with 1 or LOST may have done so because it lost another.
    name, code = min(failed, key=lambda ended: (ended.code in (1, LOST), ended.name))
    end = f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
    # Before the first step no process can have lost another: exit code 1 is an error of its own then.
    keeps_code = code in (2, 3, 128 + signal.SIGPIPE) or (code == 1 and not has_trained)
    return code if keeps_code else LOST, f"process {name} ended with {end}"


def check(options: LaunchOptions, command: list[str]) -> None:
    """Raise InputError if an option is out of range or the command is no program."""
    if options.processes < 1:
        raise InputError("--processes", f"is {options.processes}", "give an integer of at least 1")
    if not options.stall > 0:
        raise InputError("--stall", f"is {options.stall}", "give a number of seconds above 0")
    if options.devices_each is not None and options.devices_each < 1:
        raise InputError("--devices-each", f"is {options.devices_each}", "give an integer of at least 1")
    if not command:
        raise InputError("--", "no command is given", "put one behind --, for instance python -m experiments.pipeline")
    if shutil.which(command[0]) is None:
        raise InputError(command[0], "is no program", "put one behind --, for instance python -m experiments.pipeline")


def main(options: LaunchOptions, command: list[str]) -> None:
    check(options, command)
    on_stop(record_signal)
    # Processes that have lost another one wait for it and cannot save: they have no grace.
    with supervise(options.stall, grace=0.0) as supervisor:
        start(options, command, supervisor)
        code, reason = watch(supervisor)
    if code in (1, 2):  # the same would happen again
        exit_with(code, f"launch: {reason}, see above; all have ended")
    if code:
        exit_with(code, f"launch: {reason}; all have ended. What was saved is kept; continue with\n{resume_command()}")


if __name__ == "__main__":
    separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv, command = sys.argv[:separator], sys.argv[separator + 1 :]
    run(lambda options: main(options, command), LaunchOptions)
