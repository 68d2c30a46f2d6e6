"""A run's history, metrics.csv: one row per epoch."""

import csv
import io
from pathlib import Path

from jaxnets.errors import InputError, short_message
from jaxnets.runs import RETRAIN_HINT
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import read_bytes

MAX_BYTES = 1 << 24
"""Largest metrics.csv that is read; a row takes about 150 bytes."""
Row = dict[str, float]
"""One epoch's values by column."""


def write_history(folder: Path, history: list[Row]) -> None:
    """Write a run's metrics.csv."""
    with atomic_file(folder / "metrics.csv") as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_history(folder: Path) -> list[Row]:
    """Return the rows of a run's metrics.csv, one per epoch. Raises InputError if it is missing or damaged."""
    path = folder / "metrics.csv"
    try:
        text = io.StringIO(read_bytes(path, limit=MAX_BYTES).decode(), newline="")
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text)]
        if not history or not {"seconds", "compile_seconds", "images_per_second"} <= history[0].keys():
            raise ValueError("it holds no epochs")
        return history
    except InputError as error:
        raise InputError(path, error.problem, RETRAIN_HINT) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({short_message(error)})", RETRAIN_HINT) from error
