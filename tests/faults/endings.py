"""A training ends in any way that a program can end, at any step: the last step that it told of is there, and from it
the training goes on to the same bits."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cli.exit_codes import deferred, in_one_line
from jaxnets.store import checkpoint
from jaxnets.training import fit, parallel
from tests.faults import resumption
from tests.faults.resumption import EPOCHS, STEPS, compiled_once, config, end, examples
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial


def leave() -> None:
    sys.exit(7)


def fail() -> None:
    raise RuntimeError("an error in what hears of the steps")


ENDINGS: dict[str, tuple[int, Callable[[], None] | tuple[int, ...]]] = {
    "return": (0, lambda: None),
    "sys.exit": (7, leave),
    "an exception": (1, fail),
    "SIGINT": (130, (signal.SIGINT,)),
    "SIGTERM": (143, (signal.SIGTERM,)),
    "SIGHUP": (129, (signal.SIGHUP,)),
    "SIGINT twice": (130, (signal.SIGINT, signal.SIGINT)),
    "SIGTERM twice": (143, (signal.SIGTERM, signal.SIGTERM)),
}
"""Exit code, and what is done at a step within the process, or the signals that it is sent."""


def endings(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    with compiled_once(parallel.compile_steps):
        resumption.train(folder / "whole")
        desired = end(folder / "whole")
        for trial in range(trials):
            name = [*ENDINGS][trial % len(ENDINGS)]
            struck, failure = attempt(folder / str(trial), name, rng)
            failure = failure or goes_on(folder / str(trial), desired)
            yield Trial(struck, f"{name}: {failure}" if failure else "")


def attempt(folder: Path, name: str, rng: np.random.Generator) -> tuple[bool, str]:
    """-> whether the training ended so, before its end or at it, and what is wrong with what it left."""
    (code, how), (ear, mouth) = ENDINGS[name], CONTEXT.Pipe(duplex=False)
    place = int(rng.integers(1, EPOCHS * STEPS))
    worker = CONTEXT.Process(target=train, args=(folder, name, place, mouth))
    worker.start()
    mouth.close()
    told = [0]
    if isinstance(how, tuple):
        while told[-1] < place:
            told.append(ear.recv())
        time.sleep(rng.choice([0, rng.uniform(0, 0.5)]))  # in the midst of an epoch, or in a save, which takes longer
        for number in how:
            with suppress(ProcessLookupError):  # the first of two was enough
                os.kill(worker.pid, number)
            time.sleep(rng.uniform(0, 0.05))
    try:
        while True:
            told.append(ear.recv())
    except EOFError:
        worker.join(60)
    if isinstance(how, tuple) and worker.exitcode == 0:
        return False, ""
    if worker.exitcode != code:
        return True, f"exit {worker.exitcode}"
    last = told[-1] if name in ("SIGINT", "SIGTERM", "SIGHUP") else told[-1] // STEPS * STEPS
    found = checkpoint.steps(folder / "state")
    return True, "" if last == 0 or max(found, default=0) >= last else f"step {last} was told of, {found} are there"


def train(folder: Path, name: str, place: int, mouth: Any) -> None:
    """In a process of its own, as the scripts do it. What is told of at an epoch's last step is its save."""
    how = ENDINGS[name][1]

    def report(progress: fit.Progress) -> None:
        done = progress.finished * STEPS + progress.step
        if progress.step != STEPS:
            mouth.send(done)
        if done == place and not isinstance(how, tuple):
            how()

    with open(os.devnull, "w") as null, redirect_stderr(null), in_one_line(resumes=True), deferred() as stopping:
        fit.fit(folder, config(epochs=EPOCHS), *examples(STEPS), jax.devices()[:1], report, stopping)


def goes_on(folder: Path, desired: Any) -> str:
    """What is wrong with the end that the training comes to, if anything is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            resumption.train(folder)
            return "" if end(folder) == desired else "other bits"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
