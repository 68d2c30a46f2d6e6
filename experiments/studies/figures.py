"""Draws the figures of the README and the guide. Their numbers lie beside them: they are measured where they are
missing, or anew on demand."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.console import say
from experiments.cli.options import Options, run
from experiments.cli.output_dir import open_job
from experiments.cli.paths import writable_file
from experiments.cli.provenance import versions
from experiments.predict import read_log_probs, trained
from experiments.studies import ablation_figures, guide_figures
from jaxnets import plots
from jaxnets.errors import InputError, brief
from jaxnets.store.atomic import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Options):
    only: tuple[str, ...] = ()
    """Their names; all unless given: linear, training, confusion, warps and ablations, all of MNIST, and answer, which
    needs a finished pipeline. The pipeline's options are for that one."""
    measure: bool = False
    """Measure anew, whatever numbers were saved."""
    to: Path = Path("experiments/studies/figures")
    """Folder of the pictures and their numbers."""


class Figure(NamedTuple):
    measure: Callable[[FigureOptions], dict[str, Any]]
    draw: Callable[[Path, dict[str, Any]], None]


def disputed_answer(options: Options) -> dict[str, Any]:
    """A finished pipeline's most disputed test image: its views, and every network's opinion. No test label is read."""
    from jaxnets.augment import tta_views, warp_image
    from jaxnets.inference.ensemble import combine

    with open_job(options) as job:
        folders = trained(job)
        members = np.stack([np.exp(combine(views)) for views in read_log_probs(job, folders)["test"]])
    row = disputed_image(members)
    image = job.digits.x_test[row].astype(np.float32) / 255
    strength = job.preset.recipes[0].training.augmentation
    warps = tta_views(job.preset.views, strength, max(image.shape[:2]))
    views = np.stack([warp_image(image, warp) for warp in warps]).mean(axis=-1)
    return {
        "row": row,
        "shape": image.shape[:2],
        "views": [guide_figures.pack(view) for view in views],
        "networks": {
            folder.name: member[row].astype(float).tolist() for folder, member in zip(folders, members, strict=True)
        },
    }


def disputed_image(probabilities: np.ndarray) -> int:
    """probabilities (M, N, K) -> the row where the networks' mean is surest although not all of them agree."""
    mean = probabilities.mean(axis=0)
    agree = (probabilities.argmax(axis=-1) == mean.argmax(axis=-1)).all(axis=0)
    return int(np.where(agree, 0, mean.max(axis=-1)).argmax())


def draw_answer(path: Path, numbers: dict[str, Any]) -> None:
    probabilities = np.array(list(numbers["networks"].values()))
    views = np.stack([guide_figures.unpack(view, numbers["shape"]) for view in numbers["views"]]) / 255
    plots.draw_answer(path, views, list(numbers["networks"]), probabilities, probabilities.mean(axis=0))


FIGURES = {
    "linear": Figure(lambda options: guide_figures.linear(), guide_figures.draw_linear),
    "training": Figure(lambda options: guide_figures.training(), guide_figures.draw_training),
    "confusion": Figure(lambda options: guide_figures.confusion(), guide_figures.draw_confusion),
    "warps": Figure(lambda options: guide_figures.warps(), guide_figures.draw_warps),
    "ablations": Figure(lambda options: ablation_figures.measure(), ablation_figures.draw),
    "answer": Figure(disputed_answer, draw_answer),
}


def draw(name: str, picture: Path, numbers: Path) -> None:
    """InputError where the file of numbers does not hold what the figure shows."""
    try:
        FIGURES[name].draw(picture, read_json(numbers))
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"holds other numbers than the figure's ({brief(error)})"
        raise InputError(numbers, problem, "delete it, or give --measure") from error


def main(options: FigureOptions) -> None:
    unknown = set(options.only) - set(FIGURES)
    if unknown:
        raise InputError("--only", f"{', '.join(sorted(unknown))} is not known", f"choose from {', '.join(FIGURES)}")
    names = options.only or tuple(FIGURES)
    for name in names:
        writable_file(options.to / f"{name}.json")
        writable_file(options.to / f"{name}.png")
    for name in names:
        numbers = options.to / f"{name}.json"
        if options.measure or not numbers.is_file():
            command = f"python -m experiments.studies.figures --measure --only {name}"
            write_json(numbers, FIGURES[name].measure(options) | {"command": command, "versions": versions()})
        draw(name, options.to / f"{name}.png", numbers)
        say(f"{options.to / name}.png")


if __name__ == "__main__":
    run(main, FigureOptions)
