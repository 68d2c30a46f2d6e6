"""Ends a training in every way that a program can end, at any step. The last reported step must be saved, and the
training must resume from it with identical results."""

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
from tests.faults.resumption import EPOCHS, STEPS, compiled_once, config, examples, saved
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial


def leave() -> None:
    sys.exit(7)


def fail() -> None:
    raise RuntimeError("an error in the step callback")


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
"""The exit code, and what the process does at a step, or the signals that are sent to it."""


def endings(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    with compiled_once(parallel.compile_steps):
        resumption.train(folder / "whole")
        desired = saved(folder / "whole")
        for trial in range(trials):
            name = [*ENDINGS][trial % len(ENDINGS)]
            struck, failure = attempt(folder / str(trial), name, rng)
            failure = failure or resume(folder / str(trial), desired)
            yield Trial(struck, f"{name}: {failure}" if failure else "")


def attempt(folder: Path, name: str, rng: np.random.Generator) -> tuple[bool, str]:
    """Return whether the training was ended this way, and what is wrong with the files that it left."""
    code, how = ENDINGS[name]
    receiver, sender = CONTEXT.Pipe(duplex=False)
    last_step = int(rng.integers(1, EPOCHS * STEPS))
    worker = CONTEXT.Process(target=train, args=(folder, name, last_step, sender))
    worker.start()
    sender.close()
    reported = [0]
    if isinstance(how, tuple):
        while reported[-1] < last_step:
            reported.append(receiver.recv())
        time.sleep(rng.choice([0, rng.uniform(0, 0.5)]))  # during an epoch, or during a save, which takes longer
        for number in how:
            with suppress(ProcessLookupError):  # the first of two was enough
                os.kill(worker.pid, number)
            time.sleep(rng.uniform(0, 0.05))
    try:
        while True:
            reported.append(receiver.recv())
    except EOFError:
        worker.join(60)
    if isinstance(how, tuple) and worker.exitcode == 0:
        return False, ""
    if worker.exitcode != code:
        return True, f"exit {worker.exitcode}"
    last = reported[-1] if name in ("SIGINT", "SIGTERM", "SIGHUP") else reported[-1] // STEPS * STEPS
    found = checkpoint.saved_steps(folder / "state")
    return True, "" if last == 0 or max(found, default=0) >= last else f"step {last} was reported, {found} are saved"


def train(folder: Path, name: str, last_step: int, sender: Any) -> None:
    """Train as the scripts do, and report every step. The last step of an epoch is reported after its save."""
    how = ENDINGS[name][1]

    def report(progress: fit.Progress) -> None:
        done = progress.finished * STEPS + progress.step
        if progress.step != STEPS:
            sender.send(done)
        if done == last_step and not isinstance(how, tuple):
            how()

    with open(os.devnull, "w") as null, redirect_stderr(null), in_one_line(resumes=True), deferred() as should_stop:
        fit.fit(folder, config(epochs=EPOCHS), *examples(STEPS), jax.devices()[:1], report, should_stop)


def resume(folder: Path, desired: Any) -> str:
    """Resume the training -> what is wrong with its result, empty if nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            resumption.train(folder)
            return "" if saved(folder) == desired else "other results"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
