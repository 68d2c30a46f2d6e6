"""Provenance of results: versions, the command line, and the seconds of each stage."""

import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from jaxnets.store.atomic import read_json, write_json

from .console import detail


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "jax", "flax", "optax")}}


def command() -> str:
    """This program's command line, without the directories of Python and of the console script."""
    _, *arguments = sys.orig_argv
    if arguments and Path(arguments[0]).name == "jaxnets":
        return shlex.join(["jaxnets", *arguments[1:]])
    return shlex.join(["python", *arguments])


@contextmanager
def clocked(out: Path, stage: str) -> Iterator[None]:
    """Record the seconds that the block takes in `out`/seconds.json. There must be a single writer."""
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    detail(f"{stage}: {seconds:.1f} s")
    write_json(out / "seconds.json", read_seconds(out) | {stage: seconds})


def read_seconds(out: Path) -> dict[str, float]:
    """Return the seconds by stage, such as `predict senet-0`.

    They are empty if the file is missing or damaged: no prediction depends on it.
    """
    try:
        return {stage: float(seconds) for stage, seconds in read_json(out / "seconds.json").items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
