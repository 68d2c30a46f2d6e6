"""Configuration of a run: frozen dataclasses, validated when built, saved as JSON next to the results."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from jaxnets.errors import InputError

MAX_SIZE = 1_000_000
"""Largest width, batch size, image side, number of classes or epochs."""
MAX_DEPTH = 50
"""Largest depth of a model: a damaged file could describe one that takes hours to build."""


def check_number(name: str, value: object, wanted: str, allowed: Callable[[Any], bool], kind: type = float) -> None:
    """Raise InputError unless `value` is a number of type `kind` (an int also counts as a float) and is `allowed`.

    NaN is never allowed, as no comparison with it is true.
    """
    number = isinstance(value, (kind, int)) and not isinstance(value, bool)
    if not number or not allowed(value):
        raise InputError(name, f"{value!r:.60} is not allowed", f"give {wanted}")


@dataclass(frozen=True, kw_only=True)
class WarpConfig:
    """How strongly images are warped at random: every field is a warp, and 0 turns it off.

    Each value but `elastic_pixels` and `flip` is the half-width of a uniform distribution around no change. Pixels are
    those of a 28 x 28 image and scale with the image's side.
    """

    rotation_degrees: float = 10.0
    """Images are rotated by up to this angle, to either side."""
    zoom: float = 0.1
    """Images are enlarged by a factor (1 + zoom)^u, u uniform from -1 to 1."""
    stretch: float = 0.0
    """Largest change of log(width / height), at constant area."""
    shear_degrees: float = 5.0
    """Images are slanted by up to this angle, to either side."""
    shift_pixels: float = 2.0
    """Images are moved by up to this distance on each axis."""
    elastic_pixels: float = 0.7
    """RMS displacement of the elastic field on each axis."""
    flip: float = 0.0
    """Probability that an image is mirrored, left to right."""

    def __post_init__(self) -> None:
        for strength in fields(self):
            value = getattr(self, strength.name)
            check_number(strength.name, value, "a number of at least 0 and below 90", lambda x: 0 <= x < 90)
        check_number("flip", self.flip, "a probability, from 0 to 1", lambda x: 0 <= x <= 1)

    def has_warp(self) -> bool:
        """Return True if any warp is turned on."""
        return any(getattr(self, warp.name) for warp in fields(WarpConfig))

    def scaled_to(self, side: int) -> Self:
        """Return the same relative strengths for an image of `side` pixels."""
        scale = side / 28
        return replace(self, shift_pixels=self.shift_pixels * scale, elastic_pixels=self.elastic_pixels * scale)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(WarpConfig):
    """Augmentation of the training images: random warps, then MixUp."""

    mixup_alpha: float = 0.0
    """Blending weights come from Beta(alpha, alpha); 0 turns MixUp off."""


NO_WARP = AugmentConfig(rotation_degrees=0, zoom=0, shear_degrees=0, shift_pixels=0, elastic_pixels=0)
"""No augmentation at all."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained: AdamW with gradient clipping, a warm-up and a cosine schedule."""

    epochs: int = 10
    """Number of passes over the training images."""
    batch_size: int = 128
    """Images per step on all devices together."""
    learning_rate: float = 3e-3
    """Peak of the schedule, reached after the warm-up; then half a cosine to zero."""
    warmup: float = 0.15
    """Fraction of all steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """AdamW's decoupled weight decay, on kernels only."""
    clip_norm: float = 1.0
    """Gradients with a larger global norm are scaled down to it."""
    label_smoothing: float = 0.05
    """Fraction of each target that is spread evenly over all classes."""
    ema_decay: float = 0.998
    """Decay per step of the exponential moving average of parameters and statistics, which is what is evaluated."""
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        check_number("epochs", self.epochs, "an integer from 1 to a million", lambda x: 1 <= x <= MAX_SIZE, int)
        check_number("batch_size", self.batch_size, "an integer from 2 to a million", lambda x: 2 <= x <= MAX_SIZE, int)
        check_number("learning_rate", self.learning_rate, "a number between 0 and 10", lambda x: 0 < x < 10)
        check_number("warmup", self.warmup, "a fraction of all steps, from 0 to below 1", lambda x: 0 <= x < 1)
        check_number("weight_decay", self.weight_decay, "a number from 0 to below 10", lambda x: 0 <= x < 10)
        check_number("clip_norm", self.clip_norm, "a number above 0 and up to a million", lambda x: 0 < x <= MAX_SIZE)
        check_number("label_smoothing", self.label_smoothing, "a fraction from 0 to below 1", lambda x: 0 <= x < 1)
        check_number("ema_decay", self.ema_decay, "a fraction from 0 to below 1", lambda x: 0 <= x < 1)


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """How to make one model: its family, a key of `jaxnets.models.MODELS`, its sizes and its training."""

    family: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Keyword arguments of the family's class, such as width and depth; missing ones keep the class's defaults."""
    training: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            check_number(name, size, "an integer from 1 to a million", lambda x: 1 <= x <= MAX_SIZE, int)
        check_number("depth", self.sizes.get("depth", 1), f"at most {MAX_DEPTH}", lambda x: x <= MAX_DEPTH, int)


@dataclass(frozen=True, kw_only=True)
class PseudoLabelConfig:
    """Which test images get a pseudo-label, and how much a student learns from it."""

    threshold: float = 0.99
    """Least calibrated probability of the teachers' mean."""
    agreement: float = 1.0
    """Least fraction of the teachers that predict the same class as their mean."""
    per_class: int = 1000
    """Most images of one class; the most confident are taken."""
    weight: float = 0.5
    """Weight of a pseudo-labelled image in the loss; a labelled one has weight 1."""

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, "a probability above 0", lambda x: 0 < x <= 1)
        check_number("agreement", self.agreement, "a fraction above 0", lambda x: 0 < x <= 1)
        check_number("per_class", self.per_class, "an integer of at least 1", lambda x: x >= 1, int)
        check_number("weight", self.weight, "a fraction above 0", lambda x: 0 < x <= 1)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A whole pipeline: which models are trained, and how their predictions are combined."""

    name: str
    recipes: tuple[ModelRecipe, ...]
    students: tuple[str, ...]
    """Families that are also trained once on the pseudo-labels of the ensemble."""
    families: tuple[str, ...] = ()
    """Families to train, in this order; if empty, those of all recipes."""
    seeds: int = 1
    """Models per family, with consecutive seeds."""
    valid_fraction: float = 0.05
    """Fraction of the labelled images of each class that is held out for validation; 0 trains on all of them."""
    views: int = 1
    """Views per image in test-time augmentation; 1 is the image alone."""
    selection: PseudoLabelConfig = field(default_factory=PseudoLabelConfig)
    """Which test images the students learn from."""

    def recipe(self, family: str, *, option: str = "family") -> ModelRecipe:
        """Return the recipe of `family`. Raises InputError, with `option` as its place, if the preset has none."""
        for recipe in self.recipes:
            if recipe.family == family:
                return recipe
        known = ", ".join(recipe.family for recipe in self.recipes)
        raise InputError(option, f"preset {self.name} has no family {family!r}", f"choose one of {known}")


def to_json(config: Any) -> dict[str, Any]:
    """Return a dataclass as JSON reads it back: tuples become lists, so that it compares equal to a saved one."""
    return json.loads(json.dumps(asdict(config)))


def recipe_from_json(value: Mapping[str, Any]) -> ModelRecipe:
    """Return the Recipe that `to_json` made `value` of.

    Raises:
        InputError: a value is out of range.
        KeyError, TypeError: a field is missing, unknown or of a wrong type.
    """
    training = dict(value["training"])
    training["augmentation"] = AugmentConfig(**training["augmentation"])
    return ModelRecipe(**{**value, "sizes": dict(value["sizes"]), "training": TrainConfig(**training)})
