"""Leaks of long runs: memory, file descriptors, threads, disk space. Steps and saves are measured separately, each in
its own process, and pipelines one after the other in one process."""

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

MIN_SAMPLES = 100
"""Samples needed to tell a slope from noise."""
MAX_SLOPE = 0.1
"""MB that a thousand steps, or a save, may add in the second half. A save by orbax alone adds about 0.05."""
STEPS = 100
"""Training steps between two samples."""
LATE_THREADS = 2
"""Threads of pools that start when they are first needed, which may be in the second half."""


class Sample(NamedTuple):
    """Resources of this process: resident memory in MB, open descriptors, threads, including those of C++."""

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
    """Yield a trial for each sample of the worker, and one for the trend of all samples."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    samples = []
    worker = CONTEXT.Process(target=work, args=(folder, trials, sender))
    worker.start()
    sender.close()  # only the worker has it open: EOFError here if it dies
    for _ in range(trials):
        samples.append(receiver.recv())
        yield Trial(True)
    failure = receiver.recv()
    worker.join()
    half = samples[trials // 2 :]
    slope = np.polyfit(np.arange(len(half)), [sample.memory for sample in half], 1)[0] / per
    print(f"\n  {slope:+.3f} MB per {name} in the second half; first {samples[0]}, last {samples[-1]}")
    if slope > MAX_SLOPE and trials >= MIN_SAMPLES:
        failure = failure or f"{slope:.3f} MB per {name}"
    before = samples[trials // 2 - 1]
    if max(one.descriptors for one in half) > before.descriptors:
        failure = failure or f"{max(one.descriptors for one in half)} descriptors, {before.descriptors} before"
    if max(one.threads for one in half) > before.threads + LATE_THREADS:
        failure = failure or f"{max(one.threads for one in half)} threads, {before.threads} before"
    yield Trial(False, failure)


def train(folder: Path, epochs: int, steps: int, sender: Any) -> None:
    """Train, and send a sample after each epoch."""

    def report(progress: fit.Progress) -> None:
        if not progress.step:
            sender.send(measure())

    config, data = resumption.config(epochs=epochs), resumption.examples(steps)
    fit.fit(folder, config, *data, jax.devices()[:1], report)


def take_steps(folder: Path, trials: int, sender: Any) -> None:
    def save(*arguments: Any, **options: Any) -> None:
        """Do nothing: saves are measured separately."""

    with mock.patch.object(checkpoint, "save", save):
        train(folder / "run", trials, STEPS, sender)
    sender.send(leftovers(folder / "run", {"config.json", "metrics.csv"}))


def make_saves(folder: Path, trials: int, sender: Any) -> None:
    """Train with epochs of two steps. The disk space is measured while the new checkpoint and the old ones exist."""
    used, real, state = [], checkpoint.trees_equal, folder / "run" / "state"

    def trees_equal(*arguments: Any) -> bool:
        used.append(size(state))
        return real(*arguments)

    with mock.patch.object(checkpoint, "trees_equal", trees_equal):
        train(folder / "run", trials, 2, sender)
    times = max(used) / size(state / str(2 * trials))
    wrong = leftovers(folder / "run", {"config.json", "metrics.csv", "state"})
    wrong = wrong or leftovers(state, {str(2 * trials), str(2 * trials - 2)})
    sender.send(
        wrong or ("" if times <= checkpoint.KEEP_STEPS + 1 else f"the disk held {times:.2f} times a step's size")
    )


def leftovers(folder: Path, wanted: set[str]) -> str:
    found = {path.name for path in folder.iterdir()}
    return "" if found == wanted else f"{folder.name} holds {found}, not {wanted}"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_pipelines(folder: Path, trials: int, sender: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    jax.config.update("jax_disable_most_optimizations", True)
    with redirect_stdout(None):
        for trial in range(trials):
            main(PipelineOptions(preset="smoke", data="digits", out=folder / str(trial)))
            sender.send(measure())
    hidden = [path.name for trial in range(trials) for path in (folder / str(trial)).rglob(".*")]
    sender.send(f"leftovers: {hidden}" if hidden else "")
