"""Terminal output: a live progress line on a terminal, plain lines elsewhere, and tables.

The level of output is chosen once, before the first output.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jaxnets.errors import InputError, printable

if TYPE_CHECKING:
    from jaxnets.training.fit import Progress

REFRESH_SECONDS = 0.2
"""Least time between two updates of the live line."""


class Level(IntEnum):
    """How much is printed. Errors, warnings and results are printed at every level."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


level = Level.NORMAL


def choose(*, verbose: bool, quiet: bool) -> None:
    """Choose the level. Raises InputError if both are wanted."""
    global level
    if verbose and quiet:
        raise InputError("--quiet", "cannot be combined with --verbose", "give one of them")
    level = Level.VERBOSE if verbose else Level.QUIET if quiet else Level.NORMAL


def make_console() -> Console:
    """Return a console that prints text verbatim: file names may look like rich's markup or emoji codes."""
    return Console(highlight=False, markup=False, emoji=False, quiet=level == Level.QUIET)


@contextmanager
def live_line() -> Iterator[Callable[..., None]]:
    """Yield show(text, keep=False), which replaces the line on a terminal. Elsewhere it prints texts to `keep` only."""
    console = make_console()
    if not console.is_terminal or console.quiet:
        yield lambda text, keep=False: console.print(text, soft_wrap=True) if keep else None
        return
    with Live(console=console, auto_refresh=False) as live:
        last = 0.0

        def show(text: str, keep: bool = False) -> None:
            nonlocal last
            if keep or time.monotonic() - last > REFRESH_SECONDS:
                last = time.monotonic()
                with suppress(OSError):  # the terminal was closed: no reason to end a training
                    live.update(text, refresh=True)

        yield show


@contextmanager
def training_line(name: str) -> Iterator[Callable[["Progress"], None]]:
    """Yield a function that shows the progress of the training of `name`."""
    with live_line() as show:

        def report(progress: "Progress") -> None:
            show(describe(name, progress), keep=not progress.step)
            if not progress.step:
                detail(f"{name:<20} " + ", ".join(f"{key} {value:.5g}" for key, value in progress.last.items()))

        yield report


def time_left(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} left"


def describe(name: str, progress: "Progress") -> str:
    """Return the progress of a training, in less than 100 characters."""
    epochs_done = progress.finished + progress.step / progress.steps
    parts = [f"{name:<20} epoch {epochs_done:4.1f}/{progress.epochs}"]
    if progress.last:
        accuracy = progress.last.get("valid_accuracy")
        parts.append(f"loss {progress.last['loss']:.3f}" + ("" if accuracy is None else f"  valid {accuracy:.2%}"))
    images_left = (progress.epochs - epochs_done) * progress.steps * progress.batch_size
    parts.append(f"{progress.images_per_second:,.0f} images/s  {time_left(images_left / progress.images_per_second)}")
    return "  ".join(parts)


def say(text: str) -> None:
    """Print a line, unless the program is quiet."""
    if level >= Level.NORMAL:
        print(printable(text), flush=True)


def detail(text: str) -> None:
    """Print a line if the program is verbose."""
    if level == Level.VERBOSE:
        print(printable(text), flush=True)


def result(text: str) -> None:
    """Print the result of a program, its last line, at every level."""
    print(printable(text), flush=True)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is aligned left, the others right."""
    table = Table(title=printable(title), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    make_console().print(table)
