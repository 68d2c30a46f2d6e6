"""Variants of a recipe that differ in one ingredient each, and the training that `ablate` measures them with."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnets import data
from jaxnets.config import NO_WARP, ModelRecipe

if TYPE_CHECKING:
    from jaxnets.devices import Devices
    from jaxnets.training.loop import TrainLoop

CONSTANT = 1000
"""With a schedule this many times as long as the training, the learning rate stays constant after the warm-up."""
WARPS = ("rotation_degrees", "zoom", "shear_degrees", "shift_pixels", "elastic_pixels")


class Variant(NamedTuple):
    """A recipe, and what is not part of a recipe."""

    recipe: ModelRecipe
    schedule_scale: int = 1
    """How many times as long as the training its schedule is."""
    epochs_without_mixup: int = 0
    """Last epochs of the training, which do without MixUp."""


def variants(recipe: ModelRecipe) -> dict[str, Variant]:
    """Return the variants by name, the recipe itself first: an ingredient left out, doubled or halved, say."""
    training, augmentation = recipe.training, recipe.training.augmentation

    def trained(**changes: Any) -> Variant:
        return Variant(replace(recipe, training=replace(training, **changes)))

    def augmented(**changes: Any) -> Variant:
        return trained(augmentation=replace(augmentation, **changes))

    found = {"recipe": Variant(recipe), "no warps": trained(augmentation=NO_WARP)}
    for field in WARPS:
        name, value = field.partition("_")[0], getattr(augmentation, field)
        found |= {f"no {name}": augmented(**{field: 0.0}), f"{name} x 2": augmented(**{field: 2 * value})}
    mixup = augmented(mixup_alpha=0.2)
    found |= {
        "MixUp 0.2": mixup,
        "MixUp 0.2 but at the end": mixup._replace(epochs_without_mixup=max(1, training.epochs // 5)),
        "smoothing 0": trained(label_smoothing=0.0),
        "smoothing 0.1": trained(label_smoothing=0.1),
        "weight decay 0": trained(weight_decay=0.0),
        "weight decay x 4": trained(weight_decay=4 * training.weight_decay),
        "rate / 2": trained(learning_rate=training.learning_rate / 2),
        "rate x 2": trained(learning_rate=training.learning_rate * 2),
        "constant rate": trained(warmup=training.warmup / CONSTANT)._replace(schedule_scale=CONSTANT),
        "batch x 2": trained(batch_size=training.batch_size * 2),
        "epochs x 2": trained(epochs=training.epochs * 2),
    }
    widths = {name: size * 3 // 2 for name, size in recipe.sizes.items() if name in ("width", "growth")}
    if widths:
        found["width x 1.5"] = Variant(replace(recipe, sizes={**recipe.sizes, **widths}))
    return found


Train = Callable[[int, np.ndarray, np.ndarray, Callable[[int, int], None]], dict[str, int]]
"""train(seed, train_rows, valid_rows, on_step) -> number of misclassified validation images, of the EMA parameters and
statistics ("errors"), of the EMA parameters with the live statistics, and of the last parameters and statistics.
on_step(epoch, steps) is called as steps are finished."""


def trainer(variant: Variant, digits: data.Digits, num_rows: int, devices: "Devices", precision: str) -> Train:
    """Return the training function of a variant, compiled once for `num_rows` training rows. It raises DivergedError if
    a prediction is not finite."""
    import jax

    from jaxnets.devices import replicate
    from jaxnets.inference.predict import make_predict, require_finite
    from jaxnets.training.parallel import Metrics
    from jaxnets.training.step import one_hot_examples

    examples = one_hot_examples(digits.x_train, digits.y_train, digits.num_classes)
    loop, *others = make_loops(variant, digits, num_rows, precision)
    state, resident = replicate((loop.init(0), examples), devices)
    with_mixup, *without_mixup = [one.compile(devices, state, resident) for one in (loop, *others)]
    mixed_epochs = loop.training.epochs - variant.epochs_without_mixup
    runs = [with_mixup] * mixed_epochs + without_mixup * variant.epochs_without_mixup
    predict = make_predict(loop.graphdef, devices)

    def count_errors(params: Any, stats: Any, rows: np.ndarray) -> int:
        log_probs = require_finite(predict(params, stats, digits.x_train[rows]), variant.recipe.family)
        return int((log_probs.argmax(axis=-1) != digits.y_train[rows]).sum())

    def train(
        seed: int, train_rows: np.ndarray, valid_rows: np.ndarray, on_step: Callable[[int, int], None]
    ) -> dict[str, int]:
        def report(epoch: int, steps: int, metrics: Metrics) -> bool:
            on_step(epoch, steps)
            return False

        state = replicate(loop.init(seed), devices)
        for epoch, run_epoch in enumerate(runs):
            state, *_ = run_epoch(state, resident, train_rows[loop.order(seed, epoch)], partial(report, epoch))
        state = jax.block_until_ready(state)
        return {
            "errors": count_errors(state.ema["params"], state.ema["stats"], valid_rows),
            "errors_live_statistics": count_errors(state.ema["params"], state.stats, valid_rows),
            "errors_last": count_errors(state.params, state.stats, valid_rows),
        }

    return train


def make_loops(variant: Variant, digits: data.Digits, num_rows: int, precision: str) -> "list[TrainLoop]":
    """Return the variant's training loop and, if it has epochs without MixUp, the loop of those."""
    from jaxnets.runs import RunConfig
    from jaxnets.training.loop import TrainLoop

    recipes, training = [variant.recipe], variant.recipe.training
    if variant.epochs_without_mixup:
        augmentation = replace(training.augmentation, mixup_alpha=0.0)
        recipes.append(replace(variant.recipe, training=replace(training, augmentation=augmentation)))
    configs = [RunConfig.of(recipe, digits, seed=0, precision=precision) for recipe in recipes]
    return [TrainLoop(config=config, num_rows=num_rows, schedule_scale=variant.schedule_scale) for config in configs]
