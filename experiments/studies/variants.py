"""One thing changed at a time: the variants of a recipe that `ablate` compares, and how one of them is trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxnets import data
from jaxnets.config import Augmentation, Recipe

if TYPE_CHECKING:
    from jaxnets.devices import Devices

STILL = Augmentation(rotation_degrees=0, zoom=0, shear_degrees=0, shift_pixels=0, elastic_pixels=0)

CONSTANT = 1000
"""A cosine this many times longer than the training leaves the rate constant after the warm-up."""


class Variant(NamedTuple):
    """`stretch` is how many times longer than the training its schedule is; its last `calm`
    epochs, a fifth of them or one, go without MixUp."""

    recipe: Recipe
    stretch: int = 1
    calm: int = 0


def variants(recipe: Recipe) -> dict[str, Variant]:
    """The recipe itself first, then others by the name of what is changed: strengths none or doubled, say."""
    training, augmentation = recipe.training, recipe.training.augmentation
    trained = lambda **changes: Variant(replace(recipe, training=replace(training, **changes)))
    warped = lambda **changes: trained(augmentation=replace(augmentation, **changes))
    mixed = warped(mixup_alpha=0.2)
    made = {"recipe": Variant(recipe), "no warps": trained(augmentation=STILL)}
    for strength in ("rotation_degrees", "zoom", "shear_degrees", "shift_pixels", "elastic_pixels"):
        name, value = strength.partition("_")[0], getattr(augmentation, strength)
        made |= {f"no {name}": warped(**{strength: 0.0}), f"{name} x 2": warped(**{strength: 2 * value})}
    made |= {
        "MixUp 0.2": mixed,
        "MixUp 0.2 but at the end": mixed._replace(calm=max(1, training.epochs // 5)),
        "smoothing 0": trained(label_smoothing=0.0),
        "smoothing 0.1": trained(label_smoothing=0.1),
        "weight decay 0": trained(weight_decay=0.0),
        "weight decay x 4": trained(weight_decay=4 * training.weight_decay),
        "rate / 2": trained(learning_rate=training.learning_rate / 2),
        "rate x 2": trained(learning_rate=training.learning_rate * 2),
        "constant rate": trained(warmup=training.warmup / CONSTANT)._replace(stretch=CONSTANT),
        "batch x 2": trained(batch_size=training.batch_size * 2),
        "epochs x 2": trained(epochs=training.epochs * 2),
    }
    widths = {name: size * 3 // 2 for name, size in recipe.sizes.items() if name in ("width", "growth")}
    if widths:
        made["width x 1.5"] = Variant(replace(recipe, sizes={**recipe.sizes, **widths}))
    return made


Train = Callable[[int, np.ndarray, np.ndarray, Callable[[int, int], None]], dict[str, int]]


def trainer(variant: Variant, digits: data.Digits, rows: int, devices: "Devices", precision: str) -> Train:
    """-> train(seed, train_rows, valid_rows, report) -> how many validation rows the network has wrong in the end: with
    its averaged weights and statistics, with averaged weights under the live statistics, with the last ones.

    Compiled once, for `rows` training rows; report(epoch, step) is called as steps are finished. DivergedError where
    answers are not finite.
    """
    import jax

    from jaxnets.devices import replicate
    from jaxnets.inference.predict import make_predict, require_finite
    from jaxnets.runs import RunConfig
    from jaxnets.training.loop import make_train_loop
    from jaxnets.training.step import one_hot_examples

    def config(recipe: Recipe) -> RunConfig:
        return RunConfig.of(recipe, digits, seed=0, precision=precision)

    everything = one_hot_examples(digits.x_train, digits.y_train, digits.num_classes)
    parts = make_train_loop(config(variant.recipe), rows, stretch=variant.stretch)
    state, resident = replicate((parts.start(0), everything), devices)
    run_epoch = calm_epoch = parts.compile(devices, state, resident)
    training = variant.recipe.training
    if variant.calm:
        calm = replace(training, augmentation=replace(training.augmentation, mixup_alpha=0.0))
        calm_parts = make_train_loop(config(replace(variant.recipe, training=calm)), rows, stretch=variant.stretch)
        calm_epoch = calm_parts.compile(devices, state, resident)
    predict = make_predict(parts.graphdef, devices)

    def train(
        seed: int, train_rows: np.ndarray, valid_rows: np.ndarray, report: Callable[[int, int], None]
    ) -> dict[str, int]:
        state = replicate(parts.start(seed), devices)
        for epoch in range(training.epochs):

            def done(steps: int, metrics: dict[str, np.ndarray], epoch: int = epoch) -> bool:
                report(epoch, steps)
                return False

            run = run_epoch if epoch < training.epochs - variant.calm else calm_epoch
            state, _ = run(state, resident, train_rows[parts.order(seed, epoch)], done)
        state = jax.block_until_ready(state)
        average = state.average
        kept = {
            "errors": (average["params"], average["stats"]),
            "errors_live_statistics": (average["params"], state.stats),
            "errors_last": (state.params, state.stats),
        }
        images, labels = digits.x_train[valid_rows], digits.y_train[valid_rows]
        check = lambda log_probs: require_finite(log_probs, variant.recipe.family)
        answers = {name: check(predict(*arrays, images)).argmax(-1) for name, arrays in kept.items()}
        return {name: int((answer != labels).sum()) for name, answer in answers.items()}

    return train
