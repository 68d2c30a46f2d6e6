"""Several networks at once, each by a process of its own on a share of the machine: an accelerator, or some cores. For
small networks and long trainings that is faster than one after the other on all of it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli import console
from experiments.cli.console import Level, live_line
from experiments.cli.exit_codes import LOST, Stopped, deferred, leash, leave, received, signal_name, supervised
from experiments.cli.options import Options
from experiments.cli.output_dir import Job
from experiments.cluster.launch import GRACE, Clock, Pulses, Stall, end, stalled

LONG = 500_000
"""Images, all epochs counted. On two cores, a core each brought 1.1 to 1.2 times the images of one network after the
other on both; with fewer images than these, starting and compiling side by side costs that again."""


STALL = 300
"""Seconds without a training step after which a process is lost, while it trains."""


class Share(NamedTuple):
    """Of the machine, for one process: the cores of a CPU, none for all, or an accelerator's number."""

    cores: frozenset[int]
    accelerator: int | None


class Worker(NamedTuple):
    name: str
    share: Share
    process: subprocess.Popen[bytes]


def is_faster_in_parallel(job: Job) -> bool:
    """Whether to train a job's networks apart where nobody has said so: on a CPU, as that is where it was measured."""
    longest = max(recipe.training.epochs for recipe in job.preset.recipes)
    alone = len(job.devices) == 1 and job.devices[0].platform == "cpu"
    return alone and len(shares(job, len(job.teachers()))) > 1 and longest * len(job.train_rows) > LONG


def shares(job: Job, networks: int) -> list[Share]:
    """Equal ones, so that a network that is taken up again finds as many cores as before: its bits depend on them."""
    if job.devices[0].platform != "cpu":
        return [Share(frozenset(), device.local_hardware_id) for device in job.devices]
    if not hasattr(os, "sched_getaffinity"):
        return [Share(frozenset(), None)]
    cores = sorted(os.sched_getaffinity(0))
    size = -(-len(cores) // networks)
    return [Share(frozenset(cores[i : i + size]), None) for i in range(0, len(cores) - size + 1, size)]


def train_in_parallel(job: Job, options: Options, networks: list[Path]) -> None:
    """Trains those of a job's networks that are not there yet. When one process ends otherwise than well, the others
    save where they are, and this one ends with the same code."""
    waiting, free = [network for network in networks if not network.is_dir()], shares(job, len(networks))
    workers: list[Worker] = []
    seen: Pulses = {}
    clock = Clock()
    if not waiting:
        return
    job.compare()
    with tempfile.TemporaryDirectory() as pulses, deferred(), live_line() as show, leash() as stdin:
        try:
            while (waiting or workers) and not received:
                while waiting and free:
                    command = train(waiting[0], job, options)
                    workers.append(start(waiting.pop(0).name, command, free.pop(0), stdin, Path(pulses)))
                time.sleep(0.1)
                for worker in [worker for worker in workers if worker.process.poll() is not None]:
                    workers.remove(worker)
                    (Path(pulses) / worker.name).unlink()
                    free.append(worker.share)
                    check_exit(worker)
                check_stall(stalled(Path(pulses), seen, STALL, clock.read()))
                show(describe(workers, len(waiting), Path(pulses)))
        finally:
            end([worker.process for worker in workers], grace=GRACE)


def train(network: Path, job: Job, options: Options) -> list[str]:
    """The command that trains this network of a job on one device."""
    family, seed, *student = network.name.split("-")
    which = ["--family", family, "--network-seed", seed, *(["--student"] if student else [])]
    known = {field.name: getattr(options, field.name) for field in fields(Options)}
    given = Options(**known | {"preset": job.preset.name, "out": job.out, "devices": 1, "resume": True})
    return [sys.executable, "-m", "experiments.train", *which, *flags(given)]


def start(name: str, command: list[str], share: Share, stdin: int, pulses: Path) -> Worker:
    pulse = pulses / name
    pulse.touch()
    environment = os.environ | supervised(stdin, pulse)
    if share.accelerator is not None:
        environment |= {f"JAX_{kind}_VISIBLE_DEVICES": str(share.accelerator) for kind in ("CUDA", "ROCM")}
    silent = sys.stdout.isatty() or console.level == Level.QUIET  # a terminal has the live lines
    stdout = subprocess.DEVNULL if silent else None
    with only(share.cores):
        process = subprocess.Popen(command, env=environment, stdin=stdin, stdout=stdout, start_new_session=True)
    return Worker(name, share, process)


def flags(options: Any, prefix: str = "--") -> list[str]:
    """The command line for these options."""
    words = []
    for field in fields(options):
        value, name = getattr(options, field.name), prefix + field.name.replace("_", "-")
        if is_dataclass(value):
            words += flags(value, f"{name}.")
        elif isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-"))
        elif isinstance(value, tuple):
            words += [name, *map(str, value)]
        elif isinstance(value, dict):
            words += [name, *(str(word) for item in value.items() for word in item)] if value else []
        elif value is not None:
            words.append(f"{name}={value}")
    return words


@contextmanager
def only(cores: frozenset[int]) -> Iterator[None]:
    """Meanwhile this thread runs on these cores alone, and so will the processes that it starts, for ever."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check_exit(worker: Worker) -> None:
    """Ends this program where a worker ended otherwise than well; it has said why, unless it was killed."""
    code = worker.process.returncode
    if code < 0:
        leave(LOST, f"error: {worker.name} was ended by signal {signal_name(-code)}. Fix: start the same again.")
    if code > 128:
        raise Stopped(code - 128)
    if code:
        leave(code, "")


def check_stall(one: Stall | None) -> None:
    if one is not None:
        leave(LOST, f"error: {one.name} has not finished a step for {one.seconds:.0f} s. Fix: start the same again.")


def describe(workers: list[Worker], waiting: int, pulses: Path) -> str:
    """How far each worker is, a line each."""
    texts = [(pulses / worker.name).read_text() for worker in workers]
    lines = [text for text in texts if text]  # none at its beginning and at its end
    return "\n".join([*lines, *([f"{waiting} more to train"] if waiting else [])])
