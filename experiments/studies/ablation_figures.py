"""What warps, label smoothing, MixUp and the cosine schedule are worth: the recipe of the preset `quick` with one of
them taken away, or, for MixUp, which the recipe does not use, added. It takes 14 minutes of processor time.

All is measured on MNIST's training file, at the last epoch: a fixed twelfth of its rows to train on, another sixth to
validate. Test rows are not read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.variants import Variant, trainer, variants
from jaxnets import data
from jaxnets.recipes import quick

FAMILY, EPOCHS, RATE, SEEDS = "resnet", 10, 3e-3, 5
ROWS, VALID_ROWS = 5_000, 10_000


def ingredients() -> dict[str, Variant]:
    """The recipe, and what is changed in it, by its name in the figure."""
    recipe = quick().recipe(FAMILY)
    known = variants(replace(recipe, training=replace(recipe.training, epochs=EPOCHS, learning_rate=RATE)))
    names = {
        "recipe": "recipe",
        "without warps": "no warps",
        "without smoothing": "smoothing 0",
        "with MixUp": "MixUp 0.2",
        "constant rate": "constant rate",
    }
    return {shown: known[name] for shown, name in names.items()}


def chosen_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels of the training file -> rows to train on and rows to validate on, of every class its share."""
    rest, valid = data.stratified_split(labels, fraction=VALID_ROWS / len(labels), seed=0)
    _, chosen = data.stratified_split(labels[rest], fraction=ROWS / len(rest), seed=1)
    return rest[chosen], valid


def measure() -> dict[str, Any]:
    """Trains every variant with every seed -> the numbers."""
    from jaxnets.devices import choose_devices

    digits, devices = data.load("mnist"), choose_devices(1)
    rows, valid = chosen_rows(digits.y_train)
    results: dict[str, dict[str, list[float]]] = {}
    for name, variant in ingredients().items():
        train = trainer(variant, digits, len(rows), devices, "float32")
        errors = [train(seed, rows, valid, lambda epoch, step: None) for seed in range(SEEDS)]
        right = lambda kept, errors=errors: [1 - one[kept] / len(valid) for one in errors]
        results[name] = {"average": right("errors"), "last": right("errors_last")}
    return {
        "description": f"{FAMILY} of the preset quick at the rate {RATE}, MNIST's training file, validation "
        "accuracy at the last epoch; `accuracies` of the averaged weights, which jaxnets keeps, "
        "`last` of the last step's",
        "variants": {name: summary(done) for name, done in results.items()},
        "rows": len(rows),
        "valid_rows": len(valid),
        "epochs": EPOCHS,
        "seeds": SEEDS,
    }


def summary(done: dict[str, list[float]]) -> dict[str, Any]:
    spread = lambda values: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
    return {
        "accuracies": done["average"],
        **spread(done["average"]),
        "last": {"accuracies": done["last"], **spread(done["last"])},
    }


def draw(path: Path, numbers: dict[str, Any]) -> None:
    """A row a variant: a dot for each seed, a bar for their mean; grey for the weights of the last step."""
    from matplotlib.figure import Figure

    from jaxnets.plots import save

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for row, variant in enumerate(numbers["variants"].values()):
        for offset, color, part in ((-0.13, "tab:blue", variant), (0.13, "tab:gray", variant["last"])):
            percent = 100 * np.array(part["accuracies"])
            axes.scatter(percent, np.full(len(percent), row + offset), s=28, color=color, alpha=0.6, linewidths=0)
            axes.vlines(percent.mean(), row + offset - 0.1, row + offset + 0.1, color=color, linewidth=2)
    axes.scatter([], [], color="tab:blue", label="averaged weights")
    axes.scatter([], [], color="tab:gray", label="last weights")
    axes.set_yticks(range(len(numbers["variants"])), list(numbers["variants"]))
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy on {numbers['valid_rows']:,} held-out rows, %; a dot a seed, a bar their mean")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)
