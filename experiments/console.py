"""One live line a stage on a terminal, plain lines elsewhere; tables that fit either."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from jaxnets.training.fit import Progress


@contextmanager
def training_line(name: str) -> Iterator[Callable[["Progress"], None]]:
    """Yields a function that shows how far the training of `name` is."""
    console = Console(highlight=False)
    if not console.is_terminal:
        yield lambda progress: None if progress.step else console.print(describe(name, progress), soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        shown = 0.0

        def show(progress: "Progress") -> None:
            nonlocal shown
            if not progress.step or time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                live.update(describe(name, progress), refresh=True)

        yield show


def describe(name: str, progress: "Progress") -> str:
    """What `training_line` shows, in less than 100 characters."""
    done = progress.finished + progress.step / progress.steps
    parts = [f"{name:<20} epoch {done:4.1f}/{progress.epochs}"]
    if progress.last:
        parts.append(f"loss {progress.last['loss']:.3f}  valid {progress.last['valid_accuracy']:.2%}")
    left = (progress.epochs - done) * progress.steps * progress.batch_size / progress.images_per_second
    parts.append(f"{progress.images_per_second:,.0f} images/s  {timedelta(seconds=round(left))} left")
    return "  ".join(parts)


def say(text: str) -> None:
    print(text, flush=True)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, all others to the right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
