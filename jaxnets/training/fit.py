"""Examples -> a trained run, one epoch after the other, each saved: killed anywhere, it goes on to the same bits."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.config import to_json
from jaxnets.devices import Devices, replicate
from jaxnets.errors import InputError
from jaxnets.files import atomic_file, write_json
from jaxnets.inference.ensemble import accuracy
from jaxnets.inference.predict import make_predict
from jaxnets.runs import RunConfig
from jaxnets.training import checkpoint
from jaxnets.training.assemble import assemble
from jaxnets.training.parallel import check_batch
from jaxnets.training.step import Examples, TrainState

Row = dict[str, float]


class Progress(NamedTuple):
    """How far a training is: `finished` of its `epochs`, and `step` of the `steps` of the next one, none right after an
    epoch was saved; `last` is the row of the last finished epoch."""

    finished: int
    epochs: int
    step: int
    steps: int
    batch_size: int
    images_per_second: float
    last: Row


class Validation(NamedTuple):
    """images (N, H, W, C) uint8, labels (N,)."""

    images: np.ndarray
    labels: np.ndarray


def fit(
    folder: Path,
    config: RunConfig,
    examples: Examples,
    valid: Validation,
    devices: Devices,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Trains the network of `config` on `examples` (NumPy arrays); config.json, state/ and metrics.csv are left in
    `folder`.

    A folder that holds some epochs already is taken up from there, to the same bits on the same machine. Raises
    InputError, before anything compiles, where batch and devices do not fit.
    """
    training = config.recipe.training
    check_batch(training.batch_size, len(examples.images), devices)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", to_json(config))

    parts = assemble(config, len(examples.images))
    steps = parts.steps
    state, history = resume(folder, parts.start(config.seed), steps)
    first = len(history)
    if first == training.epochs:
        return
    state, resident = replicate((state, examples), devices)
    begin = time.perf_counter()
    run_epoch = parts.compile(devices, state, resident)
    compile_seconds = time.perf_counter() - begin
    predict = make_predict(parts.graphdef, devices)

    for epoch in range(first, training.epochs):
        begin = time.perf_counter()

        def done(step: int, epoch: int = epoch, begin: float = begin) -> None:
            speed = step * training.batch_size / (time.perf_counter() - begin)
            report(Progress(epoch, training.epochs, step, steps, training.batch_size, speed, (history or [{}])[-1]))

        state, metrics = run_epoch(state, resident, parts.order(config.seed, epoch), done)
        seconds = time.perf_counter() - begin
        log_probs = predict(state.average["params"], state.average["stats"], valid.images)
        row = {
            "epoch": epoch + 1,
            **{name: float(values.mean()) for name, values in metrics.items()},
            "valid_accuracy": accuracy(log_probs, valid.labels),
            "learning_rate": float(parts.rate((epoch + 1) * steps - 1)),
            "images_per_second": steps * training.batch_size / seconds,
            "seconds": seconds,
            "compile_seconds": 0.0 if epoch > first else compile_seconds,
        }
        history.append(row)
        save(folder, state, history)
        report(Progress(epoch + 1, training.epochs, 0, steps, training.batch_size, row["images_per_second"], row))


def save(folder: Path, state: TrainState, history: list[Row]) -> None:
    """The history first: rows of an epoch whose state was not saved any more are dropped when the run goes on."""
    with atomic_file(folder / "metrics.csv") as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    rest = state._replace(average={})
    checkpoint.save(folder / "state", int(state.step), {"average": state.average, "rest": rest})


def resume(folder: Path, state: TrainState, steps_per_epoch: int) -> tuple[TrainState, list[Row]]:
    """The saved state and history of `folder`, or the given state and an empty history where there is none."""
    restored = checkpoint.restore(folder / "state", {"average": state.average, "rest": state._replace(average={})})
    if restored is None:
        return state, []
    state = restored["rest"]._replace(average=restored["average"])
    return state, read_history(folder)[: int(state.step) // steps_per_epoch]


def read_history(folder: Path) -> list[Row]:
    """The rows of a run's metrics.csv, one an epoch; InputError where it has none or is damaged."""
    path = folder / "metrics.csv"
    try:
        with path.open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, f"cannot be read ({error})", "train this run again, or fetch it again") from error
