"""The race itself: one case through every library's process, A B A B ..., and medians of the pairs."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import data, recipes

from ..cli.console import say
from .case import WORKS, Case
from .workers import Worker

Seconds = dict[str, dict[str, list[float]]]
"""By library and work, one number a round."""


class Settings(NamedTuple):
    preset: str
    precision: str
    rounds: int
    steps: int


def make_case(family: str, settings: Settings, digits: data.Digits, machine: Worker) -> Case:
    recipe = recipes.preset(settings.preset).recipe(family)
    batch = recipe.training.batch_size
    rows = min(len(digits.x_train) // batch, max(settings.steps, 50)) * batch
    return Case(
        family=family,
        sizes=recipe.sizes,
        training=recipe.training,
        precision=machine.facts["precision"],
        images=digits.x_train[:rows],
        labels=digits.y_train[:rows],
        steps=min(settings.steps, rows // batch),
        answered=min(2048, rows),
        views=15,
    )


def take_turns(workers: list[Worker], works: Iterable[str], rounds: int) -> Seconds:
    """Whatever else the machine does meets all libraries alike."""
    seconds: Seconds = {worker.library: {} for worker in workers}
    for work in works:
        able = [worker for worker in workers if work in worker.works]
        for _ in range(rounds):
            for worker in able:
                seconds[worker.library].setdefault(work, []).append(worker.time(work))
    return seconds


def race(family: str, settings: Settings, digits: data.Digits, libraries: list[str]) -> dict[str, Any]:
    """All libraries at all works -> figures by library, and which share of the machine's limit jaxnets trains at."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # one accelerator, several processes
    machine = Worker("machine", settings.precision)
    case = make_case(family, settings, digits, machine)
    ours = Worker("jaxnets", case)
    workers = [ours]
    figures: dict[str, dict[str, Any]] = {}
    for library in libraries:
        try:
            workers.append(Worker(library, case, ours.weights))
        except RuntimeError as error:  # a library that cannot do it is a row of the table, not the end of it
            figures[library] = {"failed": str(error)}
            say(f"{family}: {error}")
    seconds = take_turns(workers, WORKS, settings.rounds)
    limits = {
        work: float(np.median(values)) for work, values in take_turns([machine], machine.works, 5)["machine"].items()
    }
    machine.close()
    for worker in workers:
        works = {work: summary(case, work, seconds[worker.library], seconds["jaxnets"]) for work in worker.works}
        figures[worker.library] = {**worker.facts, **worker.close(), "works": works}
    rate = ours.facts["flops_per_step"] * case.steps / float(np.median(seconds["jaxnets"]["step"]))
    return {
        "libraries": {library: figures[library] for library in ("jaxnets", *libraries)},
        "device": machine.facts["device"],
        "precision": case.precision,
        "batch_size": case.training.batch_size,
        "peak_flops": machine.facts["product_flops"] / limits["product"],
        "peak_bytes_per_second": machine.facts["copy_bytes"] / limits["copy"],
        "flops_per_second": rate,
        "share_of_peak": rate * limits["product"] / machine.facts["product_flops"],
    }


def summary(case: Case, work: str, seconds: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, Any]:
    """`jaxnets_times`: how many times faster jaxnets is, the median over the rounds."""
    return {
        "seconds": seconds[work],
        "images_per_second": case.count(work) / float(np.median(seconds[work])),
        "jaxnets_times": float(np.median(np.array(seconds[work]) / np.array(ours[work]))),
    }


def race_devices(family: str, settings: Settings, digits: data.Digits) -> dict[str, Any]:
    """The training loop on 1, 2, 4 ... devices: the accelerators there are, or shares of a CPU's cores, four at least
    to see what more of them cost."""
    machine = Worker("machine", settings.precision)
    case = make_case(family, settings, digits, machine)
    machine.close()
    available = machine.facts["devices"] if machine.facts["platform"] != "cpu" else max(4, os.cpu_count() or 1)
    workers = []
    counts = [2**power for power in range(available.bit_length())]
    for count in (count for count in counts if case.training.batch_size % (2 * count) == 0):  # whole MixUp pairs
        with forced_cpu_devices(count):
            workers.append(Worker("jaxnets", case._replace(devices=count), name=str(count)))
    seconds = take_turns(workers, ["loop"], settings.rounds)
    for worker in workers:
        worker.close()
    reduced = {worker.library: worker.facts.get("reduced_bytes_per_step", 0) for worker in workers}
    return {
        name: summary(case, "loop", timed, seconds["1"]) | {"reduced_bytes_per_step": reduced[name]}
        for name, timed in seconds.items()
    }


def measure_training(family: str, settings: Settings, digits: data.Digits, device: str, count: int) -> float | None:
    """Return the seconds of a step of the training loop on `count` devices of that kind; None if they are not there."""
    devices = jax.devices()
    if devices[0].device_kind != device or len(devices) < count:
        return None
    machine = Worker("machine", settings.precision)
    case = make_case(family, settings, digits, machine)._replace(devices=count)
    machine.close()
    worker = Worker("jaxnets", case)
    seconds = take_turns([worker], ["loop"], settings.rounds)["jaxnets"]["loop"]
    worker.close()
    return float(np.median(seconds)) / case.steps


@contextmanager
def forced_cpu_devices(count: int) -> Iterator[None]:
    """Processes started within see that many devices, if they compute on a CPU."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} --xla_force_host_platform_device_count={count}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
