"""What warps, label smoothing, MixUp and the cosine schedule are worth: the recipe of the preset `quick` with one of
them taken away, or, for MixUp, which the recipe does not use, added. It takes 14 minutes of processor time.

All is measured on MNIST's training file, at the last epoch: a fixed twelfth of its rows to train on, another sixth to
validate. Test rows are not read.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets import data
from jaxnets.config import Augmentation, Training
from jaxnets.recipes import quick

FAMILY, EPOCHS, SEEDS = "resnet", 10, 5
ROWS, VALID_ROWS = 5_000, 10_000


class Variant(NamedTuple):
    training: Training
    stretch: int = 1
    """How many times longer than the training its warm-up and cosine would be; a thousand leaves the rate constant
    from the end of the warm-up, which keeps its length."""


def variants() -> dict[str, Variant]:
    recipe = replace(quick().recipe(FAMILY).training, epochs=EPOCHS)
    still = Augmentation(rotation_degrees=0, zoom=0, shear_degrees=0, shift_pixels=0, elastic_pixels=0)
    mixed = replace(recipe.augmentation, mixup_alpha=0.2)
    return {
        "recipe": Variant(recipe),
        "without warps": Variant(replace(recipe, augmentation=still)),
        "without smoothing": Variant(replace(recipe, label_smoothing=0.0)),
        "with MixUp": Variant(replace(recipe, augmentation=mixed)),
        "constant rate": Variant(replace(recipe, warmup=recipe.warmup / 1000), stretch=1000),
    }


def chosen_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels of the training file -> rows to train on and rows to validate on, of every class its share."""
    rest, valid = data.stratified_split(labels, fraction=VALID_ROWS / len(labels), seed=0)
    _, chosen = data.stratified_split(labels[rest], fraction=ROWS / len(rest), seed=1)
    return rest[chosen], valid


def trainer(variant: Variant) -> Callable[[int], dict[str, float]]:
    """-> train(seed) -> validation accuracy of the network's averaged weights, and of its last ones."""
    from jaxnets.devices import AXIS, choose_devices, replicate
    from jaxnets.inference.ensemble import accuracy
    from jaxnets.inference.predict import make_predict
    from jaxnets.runs import RunConfig, init_arrays
    from jaxnets.training.order import batch_order
    from jaxnets.training.parallel import compile_epoch
    from jaxnets.training.schedule import make_optimizer
    from jaxnets.training.step import Examples, init_state, make_train_step

    digits = data.load("mnist")
    rows, valid = chosen_rows(digits.y_train)
    training, devices = variant.training, choose_devices(1)
    steps = training.epochs * (len(rows) // training.batch_size)
    optimizer = make_optimizer(training, variant.stretch * steps)
    examples = Examples(
        digits.x_train[rows], np.eye(10, dtype=np.float32)[digits.y_train[rows]], np.ones(len(rows), np.float32)
    )
    examples = replicate(examples, devices)
    order = lambda seed, epoch: batch_order(len(rows), training.batch_size, seed=seed, epoch=epoch)

    def start(seed: int) -> tuple[Any, Any]:
        recipe = replace(quick().recipe(FAMILY), training=training)
        config = RunConfig(
            recipe=recipe,
            seed=seed,
            precision="float32",
            image_shape=digits.x_train.shape[1:],
            num_classes=digits.num_classes,
            data=digits.name,
            data_sha256="",
        )
        graphdef, params, stats = init_arrays(config, axis_name=AXIS)
        return graphdef, replicate(init_state(params, stats, optimizer, seed=seed), devices)

    graphdef, state = start(0)
    step = make_train_step(graphdef, optimizer, training, precision="float32")
    run_epoch = compile_epoch(step, devices, state, examples, order(0, 0))
    predict = make_predict(graphdef, devices)

    def train(seed: int) -> dict[str, float]:
        _, state = start(seed)
        for epoch in range(training.epochs):
            state, _ = run_epoch(state, examples, order(seed, epoch), lambda step: None)
        weights = {"average": state.average, "last": {"params": state.params, "stats": state.stats}}
        answer = lambda arrays: predict(arrays["params"], arrays["stats"], digits.x_train[valid])
        return {name: accuracy(answer(arrays), digits.y_train[valid]) for name, arrays in weights.items()}

    return train


def measure() -> dict[str, Any]:
    """Trains every variant with every seed -> the numbers."""
    rows, valid = chosen_rows(data.load("mnist").y_train)
    results: dict[str, dict[str, list[float]]] = {}
    for name, variant in variants().items():
        train = trainer(variant)
        accuracies = [train(seed) for seed in range(SEEDS)]
        results[name] = {weights: [one[weights] for one in accuracies] for weights in ("average", "last")}
    return {
        "description": f"{FAMILY} of the preset quick, MNIST's training file, validation accuracy at the last epoch; "
        "`accuracies` of the averaged weights, which jaxnets keeps, `last` of the last step's",
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

    from jaxnets.report import save

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
