"""Draws the figures of the README and the guide from their saved numbers. Missing numbers are measured first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets import data, plots
from jaxnets.errors import InputError, short_message
from jaxnets.store.atomic import read_json, write_json

from ..cli.console import say
from ..cli.job import open_job
from ..cli.options import Options, run
from ..cli.paths import writable_file
from ..cli.provenance import versions
from ..predict import read_log_probs, trained
from . import ablation_figures, guide_figures


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Options):
    only: tuple[str, ...] = ()
    """Names of the figures. If omitted, all. linear, training, confusion, warps and ablations use MNIST; answer needs a
    finished pipeline and is the only one to which the pipeline's options apply."""
    measure: bool = False
    """Measure the numbers again, even if they were saved."""
    to: Path = Path("experiments/studies/figures")
    """Directory of the figures and their numbers."""


class Figure(NamedTuple):
    measure: Callable[[FigureOptions], dict[str, Any]]
    draw: Callable[[Path, dict[str, Any]], None]


def measure_answer(options: Options) -> dict[str, Any]:
    """Return the views and the predictions of the test image with the greatest disagreement in a finished pipeline.

    Test labels are not read.
    """
    from jaxnets.augment import tta_views, warp_image
    from jaxnets.inference.ensemble import combine

    with open_job(options, data.load(options.data, options.data_path)) as job:
        folders = trained(job)
        members = np.stack([np.exp(combine(views)) for views in read_log_probs(job, folders)["test"]])
    row = most_disputed(members)
    image = job.data.digits.x_test[row].astype(np.float32) / 255
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


def most_disputed(probabilities: np.ndarray) -> int:
    """probabilities (M, N, K) -> the row with the most confident mean among those on which the models disagree."""
    mean = probabilities.mean(axis=0)
    agree = (probabilities.argmax(axis=-1) == mean.argmax(axis=-1)).all(axis=0)
    return int(np.where(agree, 0, mean.max(axis=-1)).argmax())


@plots.styled
def draw_answer(path: Path, numbers: dict[str, Any]) -> None:
    """Draw an image with its views, the probabilities of each model and those of the ensemble."""
    probabilities = np.array(list(numbers["networks"].values()))
    ensemble = probabilities.mean(axis=0)
    classes = range(len(ensemble))
    figure = plots.new_figure(9, 5)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.2))[:, 0]
    upper.suptitle("One test image and its views for test-time augmentation", fontsize=10)
    for index, axes in enumerate(plots.image_grid(upper, 1, len(numbers["views"]))):
        view = guide_figures.unpack(numbers["views"][index], numbers["shape"])
        plots.plot_image(axes, view, xlabel=f"view {index}" if index else "no augmentation")
    left, right = lower.subplots(1, 2, width_ratios=(2, 1))
    plots.plot_probabilities(left, probabilities, list(numbers["networks"]))
    left.set_title("probabilities of each model, averaged over the views")
    right.bar(classes, ensemble, color=plots.SERIES[0])
    right.set(xlabel="class", ylabel="probability", ylim=(0, 1), xticks=classes)
    right.set_title(f"ensemble: prediction {ensemble.argmax()}")
    plots.save_png(figure, path)


FIGURES = {
    "linear": Figure(lambda options: guide_figures.measure_linear(), guide_figures.draw_linear),
    "training": Figure(lambda options: guide_figures.measure_training(), guide_figures.draw_training),
    "confusion": Figure(lambda options: guide_figures.measure_confusion(), guide_figures.draw_confusion),
    "warps": Figure(lambda options: guide_figures.measure_warps(), guide_figures.draw_warps),
    "ablations": Figure(lambda options: ablation_figures.measure(), ablation_figures.draw),
    "answer": Figure(measure_answer, draw_answer),
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
            write_json(numbers, FIGURES[name].measure(options) | {"command": command, "versions": versions()})
        draw(name, options.to / f"{name}.png", numbers)
        say(f"{options.to / name}.png")


if __name__ == "__main__":
    run(main, FigureOptions)
