"""TensorBoard's event files, beside metrics.csv and with the same numbers: `tensorboard --logdir FOLDER` shows them."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError


def check_events(*, wanted: bool) -> None:
    """InputError, before anything is written, if they are wanted and what writes them is missing."""
    if wanted and importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard", "needs tensorboardX, which is not installed", "pip install -e '.[tensorboard]'"
        )


@contextmanager
def event_file(folder: Path, *, wanted: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yields write(row): its numbers at the step row["epoch"], on the disk at once. A training that goes on writes
    another file, which withdraws what a killed start had written of the same epochs."""
    writer: Any = None

    def write(row: Mapping[str, float]) -> None:
        nonlocal writer
        if writer is None:
            from tensorboardX import SummaryWriter

            first = int(row["epoch"])  # in the name too: within a second two files would have the same
            writer = SummaryWriter(str(folder), purge_step=first, filename_suffix=f".from-{first}")
        for name in row.keys() - {"epoch"}:
            writer.add_scalar(name, row[name], int(row["epoch"]))
        writer.flush()

    try:
        yield write if wanted else lambda row: None
    finally:
        if writer is not None:
            writer.close()
