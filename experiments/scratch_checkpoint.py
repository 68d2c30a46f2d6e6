"""Checkpoints of a training in NumPy: sealed directories with the parameters, the velocities and the history so far."""

import csv
import warnings
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import discard, os_errors_as_input_errors
from jaxnets.store.manifest import REBUILD_HINT, check_manifest, committed_folder
from scratch.train import State
from scratch.weights import load_params, save_params

Row = dict[str, float]
"""The metrics of one evaluation, by name."""


def save_checkpoint(unfinished: Path, state: State, history: list[Row], made_from: dict[str, Any]) -> None:
    """Write epoch-N/ with everything that the training needs to continue, and keep only the one before it."""
    folder = unfinished / f"epoch-{state.epoch}"
    with os_errors_as_input_errors(unfinished):
        with committed_folder(folder, made_from) as temporary:
            save_params(temporary / "weights.npz", state.params)
            save_params(temporary / "velocity.npz", state.velocity)
            write_history(temporary / "metrics.csv", history)
        checkpoints = saved_checkpoints(unfinished)
        earlier = [path for path in checkpoints if epoch_of(path) < state.epoch]
        for path in checkpoints:
            if path not in (folder, *earlier[-1:]):
                discard(path)


def resume(unfinished: Path, made_from: dict[str, Any]) -> tuple[State | None, list[Row]]:
    """Return the state and the history of the last checkpoint; None and no history if there is none.

    A damaged one is skipped with a warning. Raises InputError if none is intact.
    """
    checkpoints = saved_checkpoints(unfinished)
    for folder in reversed(checkpoints):
        try:
            check_made_from(folder, made_from)
        except InputError as error:
            if folder == checkpoints[0]:
                raise
            warnings.warn(f"{error.location}: {error.problem}; {folder.name} is skipped", stacklevel=2)
            continue
        params = load_params(folder / "weights.npz")
        velocity = load_params(folder / "velocity.npz")
        return State(epoch_of(folder), params, velocity), read_history(folder / "metrics.csv")
    return None, []


def saved_checkpoints(unfinished: Path) -> list[Path]:
    """Return the checkpoints by rising epoch. Copies under other names are ignored."""
    paths = [path for path in unfinished.glob("epoch-*") if path.name.removeprefix("epoch-").isdecimal()]
    return sorted(paths, key=epoch_of)


def epoch_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("epoch-"))


def check_made_from(folder: Path, made_from: dict[str, Any]) -> None:
    """Raise InputError unless the sealed directory is intact and was made from exactly that."""
    if check_manifest(folder) != made_from:
        raise InputError(folder, "was trained with other settings, data or another seed", REBUILD_HINT)


def write_history(path: Path, history: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_history(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [
            {name: int(value) if name == "epoch" else float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
