"""What a training in NumPy sees when it looks at itself: a row a look in metrics.csv, and the last looks in a hidden
folder, sealed, so that it can go on."""

import csv
import warnings
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import discard, writing
from jaxnets.store.manifest import FIX, check, sealed_folder
from scratch.train import State
from scratch.weights import load_params, save_params

Row = dict[str, float]


def save_checkpoint(unfinished: Path, state: State, history: list[Row], made_from: dict[str, Any]) -> None:
    """All that the training needs to go on, in a sealed folder of its own; of the others the one before it stays."""
    folder = unfinished / f"epoch-{state.epoch}"
    with writing(unfinished):
        with sealed_folder(folder, made_from) as draft:
            save_params(draft / "weights.npz", state.params)
            save_params(draft / "velocity.npz", state.velocity)
            write_history(draft / "metrics.csv", history)
        found = saved_checkpoints(unfinished)
        before = [look for look in found if epoch(look) < state.epoch]
        for look in found:
            if look not in (folder, *before[-1:]):
                discard(look)


def resume(unfinished: Path, made_from: dict[str, Any]) -> tuple[State | None, list[Row]]:
    """The last look at an unfinished training, if there is one. A damaged one is passed over with a warning; InputError
    where none is whole."""
    found = saved_checkpoints(unfinished)
    for folder in reversed(found):
        try:
            check_origin(folder, made_from)
        except InputError as error:
            if folder == found[0]:
                raise
            warnings.warn(f"{error.place}: {error.problem}; {folder.name} is left out", stacklevel=2)
            continue
        params, velocity = (load_params(folder / name) for name in ("weights.npz", "velocity.npz"))
        return State(epoch(folder), params, velocity), read_history(folder / "metrics.csv")
    return None, []


def saved_checkpoints(unfinished: Path) -> list[Path]:
    """Those that there are, rising; a copy under another name is none."""
    return sorted((path for path in unfinished.glob("epoch-*") if path.name[6:].isdecimal()), key=epoch)


def epoch(look: Path) -> int:
    return int(look.name.removeprefix("epoch-"))


def check_origin(folder: Path, made_from: dict[str, Any]) -> None:
    """InputError unless the sealed folder is whole, and was made from just that."""
    if check(folder) != made_from:
        raise InputError(folder, "was trained with other settings, data or another seed", FIX)


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
