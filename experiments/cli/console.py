"""One live line a stage on a terminal, plain lines elsewhere; tables that fit either. How much is said is chosen once,
before anything is."""

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


class Level(IntEnum):
    """How much is said: errors, warnings and results always."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


level = Level.NORMAL


def choose(*, verbose: bool, quiet: bool) -> None:
    global level
    if verbose and quiet:
        raise InputError("--quiet", "goes ill with --verbose", "give one of them")
    level = Level.VERBOSE if verbose else Level.QUIET if quiet else Level.NORMAL


def make_console() -> Console:
    """A console that shows text as it is: names of files may look like rich's markup or emoji codes."""
    return Console(highlight=False, markup=False, emoji=False, quiet=level == Level.QUIET)


@contextmanager
def live_line() -> Iterator[Callable[..., None]]:
    """Yields show(text, keep=False): a line that is written anew; off a terminal, only what is to be kept is shown."""
    console = make_console()
    if not console.is_terminal or console.quiet:
        yield lambda text, keep=False: console.print(text, soft_wrap=True) if keep else None
        return
    with Live(console=console, auto_refresh=False) as live:
        shown = 0.0

        def show(text: str, keep: bool = False) -> None:
            nonlocal shown
            if keep or time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                with suppress(OSError):  # the terminal was closed: no reason to end a training
                    live.update(text, refresh=True)

        yield show


@contextmanager
def training_line(name: str) -> Iterator[Callable[["Progress"], None]]:
    """Yields a function that shows how far the training of `name` is."""
    with live_line() as show:

        def report(progress: "Progress") -> None:
            show(describe(name, progress), keep=not progress.step)
            if not progress.step:
                detail(f"{name:<20} " + ", ".join(f"{key} {value:.5g}" for key, value in progress.last.items()))

        yield report


def time_left(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} left"


def describe(name: str, progress: "Progress") -> str:
    """What `training_line` shows, in less than 100 characters."""
    done = progress.finished + progress.step / progress.steps
    parts = [f"{name:<20} epoch {done:4.1f}/{progress.epochs}"]
    if progress.last:
        valid = progress.last.get("valid_accuracy")
        parts.append(f"loss {progress.last['loss']:.3f}" + ("" if valid is None else f"  valid {valid:.2%}"))
    left = (progress.epochs - done) * progress.steps * progress.batch_size / progress.images_per_second
    parts.append(f"{progress.images_per_second:,.0f} images/s  {time_left(left)}")
    return "  ".join(parts)


def say(text: str) -> None:
    if level >= Level.NORMAL:
        print(printable(text), flush=True)


def detail(text: str) -> None:
    if level == Level.VERBOSE:
        print(printable(text), flush=True)


def result(text: str) -> None:
    """What was asked for: a program's last line."""
    print(printable(text), flush=True)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, all others to the right."""
    table = Table(title=printable(title), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    make_console().print(table)
