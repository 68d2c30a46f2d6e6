"""The named recipes: how each family is trained, from a minute's smoke test to the competition entry."""

from dataclasses import replace

from jaxnets.config import Augmentation, Preset, Recipe, Selection, Training
from jaxnets.errors import InputError

STRONG = Augmentation(rotation_degrees=12, zoom=0.12, shear_degrees=6, shift_pixels=2.25, elastic_pixels=0.75)
"""Warps for trainings of ten epochs and more."""

WRITERS = Augmentation(
    rotation_degrees=10, zoom=0.06, stretch=0.25, shear_degrees=12, shift_pixels=1.5, elastic_pixels=0.75
)
"""Warps as writers differ: within a class of Kaggle's training rows the slant has a standard deviation of 13.7 degrees
and log(width / height) one of 0.24, while size and position were normalised when MNIST was made."""

FAMILIES = ("resnet", "deep_cnn", "wide_cnn", "inception", "senet")


def preset(name: str) -> Preset:
    """The preset of that name; InputError lists the known ones."""
    presets = {"smoke": smoke, "quick": quick, "standard": standard, "competition": competition}
    if name not in presets:
        raise InputError("--preset", f"{name!r} is not known", f"choose one of {', '.join(presets)}")
    return presets[name]()


def smoke() -> Preset:
    """Tiny networks on tiny images, to see that all parts turn: `--preset smoke --data digits`."""
    training = Training(
        epochs=4, batch_size=32, learning_rate=5e-3, ema_decay=0.95, augmentation=Augmentation(mixup_alpha=0.1)
    )
    sizes = {family: {"width": 8, "depth": 1, "stem_stride": 1} for family in FAMILIES}
    sizes["deep_cnn"]["depth"], sizes["wide_cnn"]["depth"] = 3, 2
    recipes = tuple(Recipe(family=family, sizes=sizes[family], training=training) for family in FAMILIES)
    selection = Selection(threshold=0.9, per_class=20)
    return Preset(
        name="smoke", recipes=recipes, students=("deep_cnn",), valid_fraction=0.1, views=3, selection=selection
    )


def quick() -> Preset:
    """Two CPU cores, some minutes: `python -m experiments.pipeline --preset quick`; time and accuracy are in the
    README. Why this rate: docs/ABLATIONS.md. No students: two of them cost two minutes and mended nothing.

    The first layer halves the image, which saves three quarters of the work. A batch of 128 took the ResNet's
    gradients 40 ms on two cores, one of 64 took 14: larger temporary arrays seem to be mapped anew at every step.
    """
    training = Training(
        epochs=4,
        batch_size=64,
        learning_rate=6e-3,
        label_smoothing=0.03,
        ema_decay=0.995,
        augmentation=Augmentation(rotation_degrees=8, zoom=0.08, shear_degrees=4, shift_pixels=1.5, elastic_pixels=0.5),
    )
    sizes = {
        "resnet": {"width": 16, "depth": 1},
        "deep_cnn": {"width": 16, "growth": 8, "depth": 6},
        "wide_cnn": {"width": 16, "depth": 3},
        "inception": {"width": 16, "depth": 1},
        "senet": {"width": 16, "depth": 1},
    }
    recipes = tuple(
        Recipe(family=family, sizes=sizes[family] | {"stem_stride": 2}, training=training) for family in FAMILIES
    )
    return Preset(name="quick", recipes=recipes, students=(), views=5)


def standard() -> Preset:
    """Two CPU cores, an hour and ten minutes: `python -m experiments.pipeline --preset standard`.

    Networks half as wide again as those of `quick`, thirty epochs, and warps half as strong again, which so long a
    training can use; at ten epochs twice the rate made no difference any more.
    """
    small = quick()
    recipes = [
        replace(
            recipe,
            sizes={**recipe.sizes, "width": 24} | ({"growth": 12} if "growth" in recipe.sizes else {}),
            training=replace(recipe.training, epochs=30, learning_rate=3e-3, ema_decay=0.998, augmentation=STRONG),
        )
        for recipe in small.recipes
    ]
    return replace(small, name="standard", recipes=tuple(recipes), students=(), views=15)


def competition() -> Preset:
    """The entry for Kaggle's Digit Recognizer: three seeds of five families, trained on all labelled rows.

    `python -m experiments.pipeline --preset competition --data kaggle`. The models see every image at its full
    resolution, and at least five convolutions follow each other. Nothing is held out and no views are averaged: the
    cross-validation in docs/ABLATIONS.md has what these choices rest on.
    """
    training = Training(
        epochs=20, batch_size=64, learning_rate=3e-3, label_smoothing=0.03, ema_decay=0.998, augmentation=WRITERS
    )
    sizes = {
        "resnet": {"width": 32, "depth": 1},
        "deep_cnn": {"width": 16, "growth": 8, "depth": 10},
        "wide_cnn": {"width": 16, "depth": 5},
        "inception": {"width": 32, "depth": 2},
        "senet": {"width": 32, "depth": 1},
    }
    recipes = tuple(
        Recipe(family=family, sizes=sizes[family] | {"stem_stride": 1}, training=training) for family in FAMILIES
    )
    return Preset(name="competition", recipes=recipes, students=(), seeds=3, valid_fraction=0.0, views=1)


def speedrun(target: float) -> Recipe:
    """The speedrun's recipe for a mean test accuracy of 99.0, 99.5 or 99.7 %; tuned on the last 5,000
    training rows, two CPU cores, jax 0.12. The one for 99.7 is meant for GPUs and not yet measured."""
    gentle = Augmentation(rotation_degrees=5, zoom=0.05, shear_degrees=2, shift_pixels=1, elastic_pixels=0)
    still = Augmentation(rotation_degrees=0, zoom=0, shear_degrees=0, shift_pixels=0, elastic_pixels=0)
    common = {"label_smoothing": 0.03, "weight_decay": 0.02, "warmup": 0.2}
    fast = Training(epochs=1, batch_size=32, learning_rate=5e-3, ema_decay=0.985, augmentation=still, **common)
    good = Training(epochs=4, batch_size=64, learning_rate=4e-3, ema_decay=0.995, augmentation=gentle, **common)
    best = Training(epochs=30, batch_size=256, learning_rate=4e-3, label_smoothing=0.05, ema_decay=0.998)
    chosen = {
        99.0: Recipe(family="wide_cnn", sizes={"width": 12, "depth": 3, "stem_stride": 2}, training=fast),
        99.5: Recipe(family="wide_cnn", sizes={"width": 24, "depth": 3, "stem_stride": 2}, training=good),
        99.7: Recipe(family="deep_cnn", training=best),
    }
    if target not in chosen:
        raise InputError("--target", f"{target} has no recipe", f"choose one of {', '.join(map(str, chosen))}")
    return chosen[target]
