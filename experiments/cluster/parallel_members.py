"""Trains several models at once, each in its own process on a part of the machine: one accelerator, or some cores.
For small models and long trainings that is faster than one model after the other on the whole machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from ..cli import console
from ..cli.console import Level, live_line
from ..cli.exit_codes import LOST, Stopped, exit_with, received, signal_name
from ..cli.job import Job
from ..cli.options import Options
from ..cli.run_dir import Member
from .supervise import GRACE, Exit, Stall, Supervisor, supervise

MIN_IMAGES = 500_000
"""Images of a training, all epochs counted, from which on members are trained in parallel on a CPU. With one of two
cores per model, the throughput was 1.1 to 1.2 times that of one model after the other on both cores; for shorter
trainings, starting and compiling at the same time costs as much as that."""
STALL = 300
"""Seconds without a step after which a worker that trains counts as stalled."""


class Share(NamedTuple):
    """The part of the machine for one worker: CPU cores (none: all of them), or the number of an accelerator."""

    cores: frozenset[int]
    accelerator: int | None


def is_faster_in_parallel(job: Job) -> bool:
    """Return whether to train several models at once by default: on one CPU device, if the trainings are long."""
    images = max(recipe.training.epochs for recipe in job.preset.recipes) * len(job.data.train_rows)
    is_one_cpu = len(job.hardware.devices) == 1 and not job.hardware.has_accelerator
    return is_one_cpu and len(divide_machine(job, len(job.teachers()))) > 1 and images > MIN_IMAGES


def divide_machine(job: Job, models: int) -> list[Share]:
    """Return equal shares of the machine for that many models.

    The number of cores determines the last bits of a training. It must be the same when the training is resumed.
    """
    if job.hardware.has_accelerator:
        return [Share(frozenset(), device.local_hardware_id) for device in job.hardware.devices]
    if not hasattr(os, "sched_getaffinity"):
        return [Share(frozenset(), None)]
    cores = sorted(os.sched_getaffinity(0))
    size = -(-len(cores) // models)
    return [Share(frozenset(cores[i : i + size]), None) for i in range(0, len(cores) - size + 1, size)]


def train_in_parallel(job: Job, options: Options, members: list[Member]) -> None:
    """Train those of the members that are not trained yet.

    If a worker fails, the others save their state, and this program exits with the same code.
    """
    waiting = [member for member in members if not job.is_trained(member)]
    if not waiting:
        return
    job.check_environment()
    free, used = divide_machine(job, len(members)), dict[str, Share]()
    with supervise(STALL, grace=GRACE) as supervisor, live_line() as show:
        while (waiting or supervisor.workers) and not received:
            while waiting and free:
                member = waiting.pop(0)
                used[member.name] = free.pop(0)
                start(supervisor, member, used[member.name], job, options)
            time.sleep(0.1)
            for ended in supervisor.remove_ended():
                free.append(used.pop(ended.name))
                check_exit(ended)
            check_stall(supervisor.stalled())
            show("\n".join([*supervisor.progress(), *([f"{len(waiting)} more to train"] if waiting else [])]))


def start(supervisor: Supervisor, member: Member, share: Share, job: Job, options: Options) -> None:
    """Start a worker that trains the member on its share of the machine."""
    environment = dict(os.environ)
    if share.accelerator is not None:
        environment |= {f"JAX_{kind}_VISIBLE_DEVICES": str(share.accelerator) for kind in ("CUDA", "ROCM")}
    is_silent = sys.stdout.isatty() or console.level == Level.QUIET  # on a terminal this process shows the progress
    stdout = subprocess.DEVNULL if is_silent else None
    with restricted_to(share.cores):
        supervisor.start(member.name, train_command(member, job, options), environment, stdout)


def train_command(member: Member, job: Job, options: Options) -> list[str]:
    """Return the command that trains the member on one device."""
    values = {field.name: getattr(options, field.name) for field in fields(Options)}
    values |= {"out": job.run_dir.path, "devices": 1, "resume": True}
    arguments = ["--family", member.family, "--network-seed", f"{member.seed}"]
    if member.student:
        arguments.append("--student")
    return [sys.executable, "-m", f"{__name__.partition('.')[0]}.train", *arguments, *command_line(Options(**values))]


def command_line(options: Any, prefix: str = "--") -> list[str]:
    """Return the command line that parses into these options."""
    words = []
    for field in fields(options):
        value, name = getattr(options, field.name), prefix + field.name.replace("_", "-")
        if is_dataclass(value):
            words += command_line(value, f"{name}.")
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
def restricted_to(cores: frozenset[int]) -> Iterator[None]:
    """Restrict this thread to the cores within the block; a process that it starts there keeps the restriction."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check_exit(ended: Exit) -> None:
    """Exit if the worker failed. It has printed the reason itself, unless a signal killed it."""
    if ended.code < 0:
        signal_text = f"{ended.name} was ended by signal {signal_name(-ended.code)}"
        exit_with(LOST, f"error: {signal_text}. Fix: run the same command again.")
    if ended.code > 128:
        raise Stopped(ended.code - 128)
    if ended.code:
        exit_with(ended.code, "")


def check_stall(stall: Stall | None) -> None:
    """Exit if a worker has stalled."""
    if stall is not None:
        problem = f"{stall.name} has not finished a step for {stall.seconds:.0f} s"
        exit_with(LOST, f"error: {problem}. Fix: run the same command again.")
