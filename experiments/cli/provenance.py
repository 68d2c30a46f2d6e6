"""Where a result comes from: the versions, the command line, and how long each stage of a job took."""

import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from experiments.cli.console import detail
from jaxnets.store.atomic import read_json, write_json


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "jax", "flax", "optax")}}


def command() -> str:
    """This program's command line, without the place of its Python."""
    return shlex.join(["python", *sys.orig_argv[1:]])


@contextmanager
def clocked(out: Path, stage: str) -> Iterator[None]:
    """Keeps how long the block took in `out`/seconds.json. For one writer at a time, which a job's lock sees to."""
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    detail(f"{stage}: {seconds:.1f} s")
    write_json(out / "seconds.json", read_seconds(out) | {stage: seconds})


def read_seconds(out: Path) -> dict[str, float]:
    """By stage, such as `predict senet-0`. Nothing where the file is missing or damaged: no answer depends on it."""
    try:
        return {stage: float(seconds) for stage, seconds in read_json(out / "seconds.json").items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
