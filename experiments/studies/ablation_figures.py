"""Ablation for the guide: the recipe of the preset `quick` without augmentation, without label smoothing, with a
constant learning rate, and with MixUp, which it does not use. It takes 14 minutes of processor time.

Everything is measured on MNIST's training file at the last epoch: a fixed twelfth of its rows for training, another
sixth for validation. Test rows are not read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import data, plots
from jaxnets.recipes import quick

from .variants import Variant, trainer, variants

FAMILY = "resnet"
EPOCHS = 10
LEARNING_RATE = 3e-3
SEEDS = 5
TRAIN_ROWS = 5_000
VALID_ROWS = 10_000

NAMES = {
    "recipe": "recipe",
    "without warps": "no warps",
    "without smoothing": "smoothing 0",
    "with MixUp": "MixUp 0.2",
    "constant rate": "constant rate",
}
"""Names of the variants in the JSON file, and in `variants`."""

LABELS = {
    "without warps": "without augmentation",
    "without smoothing": "without label smoothing",
    "constant rate": "constant learning rate",
}


def ablated_recipes() -> dict[str, Variant]:
    """Return the recipe and its variants by their names in the JSON file."""
    recipe = quick().recipe(FAMILY)
    training = replace(recipe.training, epochs=EPOCHS, learning_rate=LEARNING_RATE)
    known = variants(replace(recipe, training=training))
    return {name: known[variant] for name, variant in NAMES.items()}


def split_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels of the training file -> training rows and validation rows, both stratified."""
    rest, valid = data.stratified_split(labels, fraction=VALID_ROWS / len(labels), seed=0)
    _, train = data.stratified_split(labels[rest], fraction=TRAIN_ROWS / len(rest), seed=1)
    return rest[train], valid


def measure() -> dict[str, Any]:
    """Train every variant with every seed and return the validation accuracies."""
    from jaxnets.devices import choose_devices

    digits, devices = data.load("mnist"), choose_devices(1)
    rows, valid = split_rows(digits.y_train)
    results: dict[str, dict[str, Any]] = {}
    for name, variant in ablated_recipes().items():
        train = trainer(variant, digits, len(rows), devices, "float32")
        errors = [train(seed, rows, valid, lambda epoch, step: None) for seed in range(SEEDS)]
        last = summary([1 - counts["errors_last"] / len(valid) for counts in errors])
        results[name] = summary([1 - counts["errors"] / len(valid) for counts in errors]) | {"last": last}
    return {
        "description": f"validation accuracy at the last epoch of {FAMILY} of the preset quick with the learning rate "
        f"{LEARNING_RATE} on MNIST's training file; `accuracies` with averaged weights (EMA), which jaxnets keeps, "
        "`last` with the weights of the last step",
        "variants": results,
        "rows": len(rows),
        "valid_rows": len(valid),
        "epochs": EPOCHS,
        "seeds": SEEDS,
    }


def summary(accuracies: list[float]) -> dict[str, Any]:
    return {"accuracies": accuracies, "mean": float(np.mean(accuracies)), "sd": float(np.std(accuracies, ddof=1))}


@plots.styled
def draw(path: Path, numbers: dict[str, Any]) -> None:
    """Plot one row per variant: one dot per seed, a bar for their mean."""
    [axes] = plots.panels(width=8, height=3.6)
    kinds = ((-0.13, plots.SERIES[0], "averaged weights (EMA)"), (0.13, plots.SERIES[5], "weights of the last step"))
    for row, variant in enumerate(numbers["variants"].values()):
        for (offset, color, label), part in zip(kinds, (variant, variant["last"]), strict=True):
            percent = 100 * np.array(part["accuracies"])
            y = np.full(len(percent), row + offset)
            axes.scatter(percent, y, s=28, color=color, alpha=0.6, linewidths=0, label="" if row else label)
            axes.vlines(percent.mean(), row + offset - 0.1, row + offset + 0.1, color=color, linewidth=2)
    axes.set_yticks(range(len(numbers["variants"])), [LABELS.get(name, name) for name in numbers["variants"]])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"validation accuracy on {numbers['valid_rows']:,} images, %; one dot per seed, bar: mean")
    axes.legend()
    plots.save_png(axes.figure, path)
