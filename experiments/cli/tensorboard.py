"""TensorBoard event files with the numbers of metrics.csv: `tensorboard --logdir DIRECTORY` shows them."""

import importlib.util
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import os_errors_as_input_errors


def check_events(*, wanted: bool) -> None:
    """Raise InputError if event files are wanted and tensorboardX is missing."""
    if wanted and importlib.util.find_spec("tensorboardX") is None:
        problem = "needs tensorboardX, which is not installed"
        raise InputError("--tensorboard", problem, "pip install -e '.[tensorboard]'")


@contextmanager
def event_file(folder: Path, *, wanted: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yield write(row), which writes the numbers of an epoch, row["epoch"], to an event file and flushes it.

    A resumed training begins another file, which supersedes what the interrupted one wrote of the same epochs. If event
    files are not `wanted`, write does nothing.
    Raises InputError if the directory cannot be created; write does if the row cannot be written.
    """
    if not wanted:
        yield lambda row: None
        return
    with os_errors_as_input_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    records: Any = None

    def write(row: Mapping[str, float]) -> None:
        nonlocal records
        with os_errors_as_input_errors(folder):
            records = records or begin(folder, int(row["epoch"]))
            for event in events_of(row):
                records.write(event.SerializeToString())
            records.flush()

    try:
        yield write
    finally:
        if records is not None:
            with os_errors_as_input_errors(folder):
                records.close()


def begin(folder: Path, first: int) -> Any:
    """Return a writer of a new event file, which supersedes other files from epoch `first` on.

    It is not a SummaryWriter, whose thread would report a full disk by a traceback.
    """
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    # The name includes the epoch: two files of the same second would have the same name.
    name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.from-{first}"
    records = RecordWriter(f"{folder.absolute()}/{name}")
    for content in ({"file_version": "brain.Event:2"}, {"session_log": SessionLog(status=SessionLog.START)}):
        records.write(Event(wall_time=time.time(), step=first, **content).SerializeToString())
    return records


def events_of(row: Mapping[str, float]) -> Iterator[Any]:
    """Yield one event per number of the row."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    for name in row.keys() - {"epoch"}:
        value = Summary.Value(tag=name, simple_value=float(row[name]))
        yield Event(wall_time=time.time(), step=int(row["epoch"]), summary=Summary(value=[value]))
