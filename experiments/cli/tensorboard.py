"""TensorBoard's event files, beside metrics.csv and with the same numbers: `tensorboard --logdir FOLDER` shows them."""

import importlib.util
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import writing


def check_events(*, wanted: bool) -> None:
    """InputError, before anything is written, if they are wanted and what writes them is missing."""
    if wanted and importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard", "needs tensorboardX, which is not installed", "pip install -e '.[tensorboard]'"
        )


@contextmanager
def event_file(folder: Path, *, wanted: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yields write(row): its numbers at the step row["epoch"], on the disk at once. A training that goes on writes
    another file, which withdraws what a killed start had written of the same epochs. InputError, at the beginning, if
    no folder can be made there; later, if the disk does not take a row."""
    if not wanted:
        yield lambda row: None
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    records: Any = None

    def write(row: Mapping[str, float]) -> None:
        nonlocal records
        with writing(folder):
            records = records or begin(folder, int(row["epoch"]))
            for event in events_of(row):
                records.write(event.SerializeToString())
            records.flush()

    try:
        yield write
    finally:
        if records is not None:
            with writing(folder):
                records.close()


def begin(folder: Path, first: int) -> Any:
    """A new file of records, which says that whatever other files have of epochs from the first on does not count.
    Without tensorboardX's SummaryWriter, whose thread would tell of a full disk by a traceback."""
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    host = socket.gethostname()
    # The epoch in the name too: within a second two files would have the same.
    records = RecordWriter(f"{folder.absolute()}/events.out.tfevents.{int(time.time())}.{host}.from-{first}")
    for facts in ({"file_version": "brain.Event:2"}, {"session_log": SessionLog(status=SessionLog.START)}):
        records.write(Event(wall_time=time.time(), step=first, **facts).SerializeToString())
    return records


def events_of(row: Mapping[str, float]) -> Iterator[Any]:
    """An event a number of the row."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    for name in row.keys() - {"epoch"}:
        value = Summary.Value(tag=name, simple_value=float(row[name]))
        yield Event(wall_time=time.time(), step=int(row["epoch"]), summary=Summary(value=[value]))
