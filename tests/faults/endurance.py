"""What a long run may use up, little by little: memory, descriptors, threads, the disk. Steps and saves are counted
apart, each in a process of its own, and pipelines one after the other in one."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np

from experiments.pipeline import PipelineOptions, main
from jaxnets.store import checkpoint
from jaxnets.training import fit
from tests.faults import resumption
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial

ENOUGH = 100
"""Samples that tell a slope from noise."""
SLOPE = 0.1
"""MB that a thousand steps, or a save, may add in the second half: orbax' own saves add about 0.05."""
STEPS = 100
"""Between two samples."""
LATE = 2
"""Threads of pools that start when they are first needed, which may be late."""


class Sample(NamedTuple):
    """What this process holds: resident memory in MB, open descriptors, threads, those of C++ too."""

    memory: float
    descriptors: int
    threads: int


def measure() -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    held = (len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task"))
    return Sample(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, *held)


def steps(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    return watch(take_steps, folder, trials, per=STEPS / 1000, name="1000 steps")


def saves(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    return watch(make_saves, folder, trials, per=1, name="save")


def pipelines(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    return watch(run_pipelines, folder, trials, per=1, name="pipeline")


def watch(work: Callable[..., None], folder: Path, trials: int, *, per: float, name: str) -> Iterator[Trial]:
    """A trial for each sample that the worker takes, and one for what they say together."""
    (heard, told), samples = CONTEXT.Pipe(duplex=False), []
    worker = CONTEXT.Process(target=work, args=(folder, trials, told))
    worker.start()
    told.close()  # only the worker's is open: EOFError here when it dies
    for _ in range(trials):
        samples.append(heard.recv())
        yield Trial(True)
    failure = heard.recv()
    worker.join()
    half = samples[trials // 2 :]
    slope = np.polyfit(np.arange(len(half)), [sample.memory for sample in half], 1)[0] / per
    print(f"\n  {slope:+.3f} MB a {name} in the second half; at first {samples[0]}, at last {samples[-1]}")
    if slope > SLOPE and trials >= ENOUGH:
        failure = failure or f"{slope:.3f} MB a {name}"
    before = samples[trials // 2 - 1]
    if max(one.descriptors for one in half) > before.descriptors:
        failure = failure or f"{max(one.descriptors for one in half)} descriptors, there were {before.descriptors}"
    if max(one.threads for one in half) > before.threads + LATE:
        failure = failure or f"{max(one.threads for one in half)} threads, there were {before.threads}"
    yield Trial(False, failure)


def train(folder: Path, epochs: int, steps: int, told: Any) -> None:
    """A training that tells of itself after each epoch."""
    tell = lambda progress: None if progress.step else told.send(measure())
    config, data = resumption.config(epochs=epochs), resumption.examples(steps)
    fit.fit(folder, config, *data, jax.devices()[:1], tell)


def take_steps(folder: Path, trials: int, told: Any) -> None:
    def save(*arguments: Any, **options: Any) -> None:
        """Nothing: saves are counted apart."""

    with mock.patch.object(checkpoint, "save", save):
        train(folder / "run", trials, STEPS, told)
    told.send(leftovers(folder / "run", {"config.json", "metrics.csv"}))


def make_saves(folder: Path, trials: int, told: Any) -> None:
    """An epoch is of two steps. How much of the disk is used is asked when one more is written whole."""
    used, real, state = [], checkpoint.same, folder / "run" / "state"

    def same(*arguments: Any) -> bool:
        used.append(size(state))
        return real(*arguments)

    with mock.patch.object(checkpoint, "same", same):
        train(folder / "run", trials, 2, told)
    times = max(used) / size(state / str(2 * trials))
    wrong = leftovers(folder / "run", {"config.json", "metrics.csv", "state", "best"})
    wrong = wrong or leftovers(state, {str(2 * trials), str(2 * trials - 2)})
    told.send(wrong or ("" if times <= checkpoint.KEEP + 1 else f"the disk held {times:.2f} times a step's size"))


def leftovers(folder: Path, wanted: set[str]) -> str:
    found = {path.name for path in folder.iterdir()}
    return "" if found == wanted else f"{folder.name} holds {found}, not {wanted}"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_pipelines(folder: Path, trials: int, told: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    jax.config.update("jax_disable_most_optimizations", True)
    with redirect_stdout(None):
        for trial in range(trials):
            main(PipelineOptions(preset="smoke", data="digits", out=folder / str(trial)))
            told.send(measure())
    hidden = [path.name for trial in range(trials) for path in (folder / str(trial)).rglob(".*")]
    told.send(f"leftovers: {hidden}" if hidden else "")
