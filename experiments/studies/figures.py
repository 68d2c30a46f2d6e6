"""Draws the figures of the guide from their saved numbers. Missing numbers are measured first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import InputError, short_message
from jaxnets.store.atomic import read_json, write_json

from ..cli.console import say
from ..cli.options import run
from ..cli.paths import writable_file
from ..cli.provenance import versions
from . import ablation_figures, guide_figures


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    only: tuple[str, ...] = ()
    """Names of the figures: linear, training, confusion, warps, ablations (default: all)."""
    measure: bool = False
    """Measure the numbers again, even if they were saved."""
    to: Path = Path("experiments/studies/figures")
    """Directory of the figures and their numbers."""


class Figure(NamedTuple):
    measure: Callable[[], dict[str, Any]]
    draw: Callable[[Path, dict[str, Any]], None]


FIGURES = {
    "linear": Figure(guide_figures.measure_linear, guide_figures.draw_linear),
    "training": Figure(guide_figures.measure_training, guide_figures.draw_training),
    "confusion": Figure(guide_figures.measure_confusion, guide_figures.draw_confusion),
    "warps": Figure(guide_figures.measure_warps, guide_figures.draw_warps),
    "ablations": Figure(ablation_figures.measure, ablation_figures.draw),
}


def draw(name: str, image: Path, numbers: Path) -> None:
    """Draw a figure from its saved numbers; raise InputError if the file holds other numbers."""
    try:
        FIGURES[name].draw(image, read_json(numbers))
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"does not hold the numbers of this figure ({short_message(error)})"
        raise InputError(numbers, problem, "delete it, or use --measure") from error


def main(options: FigureOptions) -> None:
    unknown = set(options.only) - set(FIGURES)
    if unknown:
        raise InputError("--only", f"unknown figure {', '.join(sorted(unknown))}", f"choose from {', '.join(FIGURES)}")
    names = options.only or tuple(FIGURES)
    for name in names:
        writable_file(options.to / f"{name}.json")
        writable_file(options.to / f"{name}.png")
    for name in names:
        numbers = options.to / f"{name}.json"
        if options.measure or not numbers.is_file():
            command = f"python -m experiments.studies.figures --measure --only {name}"
            write_json(numbers, FIGURES[name].measure() | {"command": command, "versions": versions()})
        draw(name, options.to / f"{name}.png", numbers)
        say(f"{options.to / name}.png")


if __name__ == "__main__":
    run(main, FigureOptions)
