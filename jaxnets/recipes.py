"""Named recipes: how each family is trained, from a one-minute smoke test to the competition entry."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from jaxnets.config import NO_WARP, AugmentConfig, ModelRecipe, Preset, PseudoLabelConfig, TrainConfig
from jaxnets.errors import InputError

WRITERS = AugmentConfig(
    rotation_degrees=10, zoom=0.06, stretch=0.25, shear_degrees=12, shift_pixels=1.5, elastic_pixels=0.75
)
"""Warps as writers differ: within a class of Kaggle's training images the slant has a standard deviation of 13.7
degrees and log(width / height) one of 0.24, while size and position were normalised when MNIST was made."""

SMOKE_SIZES = {
    "resnet": {"width": 8, "depth": 1, "stem_stride": 1},
    "deep_cnn": {"width": 8, "depth": 3, "stem_stride": 1},
    "wide_cnn": {"width": 8, "depth": 2, "stem_stride": 1},
    "inception": {"width": 8, "depth": 1, "stem_stride": 1},
    "senet": {"width": 8, "depth": 1, "stem_stride": 1},
}
QUICK_SIZES = {
    "resnet": {"width": 16, "depth": 1, "stem_stride": 2},
    "deep_cnn": {"width": 16, "growth": 8, "depth": 6, "stem_stride": 2},
    "wide_cnn": {"width": 16, "depth": 3, "stem_stride": 2},
    "inception": {"width": 16, "depth": 1, "stem_stride": 2},
    "senet": {"width": 16, "depth": 1, "stem_stride": 2},
}
FULL_SIZES = {
    "resnet": {"width": 32, "depth": 1, "stem_stride": 1},
    "deep_cnn": {"width": 16, "growth": 8, "depth": 10, "stem_stride": 1},
    "wide_cnn": {"width": 16, "depth": 5, "stem_stride": 1},
    "inception": {"width": 32, "depth": 2, "stem_stride": 1},
    "senet": {"width": 32, "depth": 1, "stem_stride": 1},
}

FAMILIES = tuple(SMOKE_SIZES)
"""The keys of `jaxnets.models.MODELS`, for modules that do not import JAX."""


def make_recipes(sizes: Mapping[str, Mapping[str, int]], training: TrainConfig) -> tuple[ModelRecipe, ...]:
    """Return one recipe per family in `sizes`, all with the same training."""
    return tuple(ModelRecipe(family=family, sizes=sizes[family], training=training) for family in sizes)


def smoke() -> Preset:
    """Tiny models on tiny images, to see that all parts work: `--preset smoke --data digits`."""
    training = TrainConfig(
        epochs=4, batch_size=32, learning_rate=5e-3, ema_decay=0.95, augmentation=AugmentConfig(mixup_alpha=0.1)
    )
    return Preset(
        name="smoke",
        recipes=make_recipes(SMOKE_SIZES, training),
        students=("deep_cnn",),
        valid_fraction=0.1,
        views=3,
        selection=PseudoLabelConfig(threshold=0.9, per_class=20),
    )


def quick() -> Preset:
    """Two CPU cores, some minutes: `python -m experiments.pipeline --preset quick`; the README has its time and
    accuracy, docs/ABLATIONS.md the reason for its learning rate. No students: two took two minutes and gained nothing.

    The first layer halves the image, which saves three quarters of the work. On two cores a batch of 128 took the
    ResNet's gradients 40 ms and one of 64 took 14 ms.
    """
    training = TrainConfig(
        epochs=4,
        batch_size=64,
        learning_rate=6e-3,
        label_smoothing=0.03,
        ema_decay=0.995,
        augmentation=AugmentConfig(
            rotation_degrees=8, zoom=0.08, shear_degrees=4, shift_pixels=1.5, elastic_pixels=0.5
        ),
    )
    return Preset(name="quick", recipes=make_recipes(QUICK_SIZES, training), students=())


def standard() -> Preset:
    """Two CPU cores, about an hour: `python -m experiments.pipeline --preset standard`; the README has its accuracy.

    The models see every image at its full resolution, and at least five convolutions follow each other. On one fold
    this made fewer errors than larger models that halve the image first (docs/ABLATIONS.md).
    """
    training = replace(
        quick().recipes[0].training, epochs=20, learning_rate=3e-3, ema_decay=0.998, augmentation=WRITERS
    )
    return Preset(name="standard", recipes=make_recipes(FULL_SIZES, training), students=())


def competition() -> Preset:
    """The entry for Kaggle's Digit Recognizer: three seeds of the models of `standard`, trained on all labelled images.

    `python -m experiments.pipeline --preset competition --data kaggle`. No images are held out, and no views are
    averaged. The five models of one seed take 101 minutes of a core, in bfloat16; the accuracy is not measured yet.
    """
    return replace(standard(), name="competition", seeds=3, valid_fraction=0.0)


def fashion() -> Preset:
    """Fashion-MNIST: five models of `standard`'s sizes, with mirrored images instead of slanted ones.

    `python -m experiments.pipeline --preset fashion --data DIRECTORY`. Its accuracy and its time are not measured yet.
    """
    augmentation = AugmentConfig(
        rotation_degrees=0, zoom=0.08, shear_degrees=0, shift_pixels=2, elastic_pixels=0, flip=0.5
    )
    training = replace(standard().recipes[0].training, label_smoothing=0.05, augmentation=augmentation)
    return Preset(name="fashion", recipes=make_recipes(FULL_SIZES, training), students=())


PRESETS: dict[str, Callable[[], Preset]] = {
    "smoke": smoke,
    "quick": quick,
    "standard": standard,
    "competition": competition,
    "fashion": fashion,
}


def preset(name: str) -> Preset:
    """Return the preset of that name, a key of PRESETS. Raises InputError if there is none."""
    if name not in PRESETS:
        raise InputError("preset", f"{name!r} is unknown", f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def speedrun(target: float) -> ModelRecipe:
    """Return the speedrun's recipe for a mean test accuracy of 99.0, 99.5 or 99.7 %.

    Tuned on the last 5,000 training images of MNIST, on two CPU cores, with jax 0.12. The recipe for 99.7 % is meant
    for GPUs and not yet measured. Raises InputError for other targets.
    """
    mild = AugmentConfig(rotation_degrees=5, zoom=0.05, shear_degrees=2, shift_pixels=1, elastic_pixels=0)
    common = {"label_smoothing": 0.03, "weight_decay": 0.02, "warmup": 0.2}
    fast = TrainConfig(epochs=1, batch_size=32, learning_rate=5e-3, ema_decay=0.985, augmentation=NO_WARP, **common)
    medium = TrainConfig(epochs=4, batch_size=64, learning_rate=4e-3, ema_decay=0.995, augmentation=mild, **common)
    long = TrainConfig(epochs=30, batch_size=256, learning_rate=4e-3, label_smoothing=0.05, ema_decay=0.998)
    recipes = {
        99.0: ModelRecipe(family="wide_cnn", sizes={"width": 12, "depth": 3, "stem_stride": 2}, training=fast),
        99.5: ModelRecipe(family="wide_cnn", sizes={"width": 24, "depth": 3, "stem_stride": 2}, training=medium),
        99.7: ModelRecipe(family="deep_cnn", training=long),
    }
    if target not in recipes:
        raise InputError("target", f"{target} has no recipe", f"choose one of {', '.join(map(str, recipes))}")
    return recipes[target]
