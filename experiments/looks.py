"""What a training in NumPy sees when it looks at itself: a row a look in metrics.csv, and the last look in a hidden
folder, so that it can go on."""

import csv
from pathlib import Path

from jaxnets.errors import InputError
from jaxnets.files import atomic_folder, remove
from scratch.train import State
from scratch.weights import load_params, save_params

Row = dict[str, float]


def save_look(unfinished: Path, state: State, history: list[Row]) -> None:
    """All that the training needs to go on, in a folder of its own; then the one before it goes."""
    before = list(unfinished.glob("epoch-*"))
    with atomic_folder(unfinished / f"epoch-{state.epoch}") as draft:
        save_params(draft / "weights.npz", state.params)
        save_params(draft / "velocity.npz", state.velocity)
        write_history(draft / "metrics.csv", history)
    for folder in before:
        remove(folder)


def resume(unfinished: Path) -> tuple[State | None, list[Row]]:
    """The last look at an unfinished training, if there is one."""
    looks = sorted(unfinished.glob("epoch-*"), key=lambda folder: int(folder.name.removeprefix("epoch-")))
    if not looks:
        return None, []
    try:
        history = read_history(looks[-1] / "metrics.csv")
        params, velocity = (load_params(looks[-1] / name) for name in ("weights.npz", "velocity.npz"))
        return State(int(history[-1]["epoch"]), params, velocity), history
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(looks[-1], f"is damaged ({error})", "delete it, and that training starts anew") from error


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
