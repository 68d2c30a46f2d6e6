"""What a run is made of: frozen dataclasses, checked when built, saved whole as JSON beside what they produced."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from jaxnets.errors import InputError

MANY = 1_000_000
DEEPEST = 50
"""A network's depth: a file could ask for one that takes hours to put together."""


def check_number(name: str, value: object, wanted: str, allowed: Callable[[Any], bool], kind: type = float) -> None:
    """InputError unless `value` is a number of its kind (a whole one is a float too) and `allowed`, which NaN never
    is."""
    number = isinstance(value, (kind, int)) and not isinstance(value, bool)
    if not number or not allowed(value):
        raise InputError(name, f"{value!r:.60} is not allowed", f"give {wanted}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Strengths of the random warps. Each is the half-width of a uniform distribution, except `elastic_pixels`, the RMS
    displacement. Pixels are those of a 28 x 28 image and grow with larger ones; `stretch` is log(width / height) at
    constant area."""

    rotation_degrees: float = 10.0
    zoom: float = 0.1
    stretch: float = 0.0
    shear_degrees: float = 5.0
    shift_pixels: float = 2.0
    elastic_pixels: float = 0.7
    mixup_alpha: float = 0.0

    def __post_init__(self) -> None:
        for strength in fields(self):
            value = getattr(self, strength.name)
            check_number(strength.name, value, "a number of at least 0 and below 90", lambda x: 0 <= x < 90)

    def bends(self) -> bool:
        """Whether any warp is asked for at all."""
        return any(getattr(self, strength.name) for strength in fields(self) if strength.name != "mixup_alpha")

    def scaled_to(self, side: int) -> "Augmentation":
        """The same relative strengths for an image of `side` pixels."""
        scale = side / 28
        return replace(self, shift_pixels=self.shift_pixels * scale, elastic_pixels=self.elastic_pixels * scale)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one network is trained. `learning_rate` is the peak of a warm-up over `warmup` of all steps and a cosine
    to zero; `weight_decay` is AdamW's, on kernels only; `ema_decay` is that of the averages which are kept in the
    end."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 3e-3
    warmup: float = 0.15
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    ema_decay: float = 0.998
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_number("epochs", self.epochs, "1 to a million", lambda x: 1 <= x <= MANY, int)
        check_number("batch_size", self.batch_size, "2 to a million", lambda x: 2 <= x <= MANY, int)
        check_number("learning_rate", self.learning_rate, "a number between 0 and 10", lambda x: 0 < x < 10)
        check_number("warmup", self.warmup, "a share of all steps, from 0 to below 1", lambda x: 0 <= x < 1)
        check_number("weight_decay", self.weight_decay, "a number from 0 to below 10", lambda x: 0 <= x < 10)
        check_number("clip_norm", self.clip_norm, "a number above 0 and up to a million", lambda x: 0 < x <= MANY)
        check_number("label_smoothing", self.label_smoothing, "a share from 0 to below 1", lambda x: 0 <= x < 1)
        check_number("ema_decay", self.ema_decay, "a share from 0 to below 1", lambda x: 0 <= x < 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One network: a family of `jaxnets.models`, its sizes, its training."""

    family: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            check_number(name, size, "a whole number from 1 to a million", lambda x: 1 <= x <= MANY, int)
        check_number("depth", self.sizes.get("depth", 1), f"at most {DEEPEST}", lambda x: x <= DEEPEST, int)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which test rows get a pseudo-label: calibrated probability of the teachers' mean at least `threshold`, at
    least a share `agreement` of them naming the same class, at most `per_class` rows a class. A student counts each
    as `weight` of a row."""

    threshold: float = 0.99
    agreement: float = 1.0
    per_class: int = 1000
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, "a probability above 0", lambda x: 0 < x <= 1)
        check_number("agreement", self.agreement, "a share above 0", lambda x: 0 < x <= 1)
        check_number("per_class", self.per_class, "at least 1", lambda x: x >= 1, int)
        check_number("weight", self.weight, "a share above 0", lambda x: 0 < x <= 1)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A whole pipeline: `recipes` trained with `seeds` seeds each, then `students` (families, one each) on
    pseudo-labels too."""

    name: str
    recipes: tuple[Recipe, ...]
    students: tuple[str, ...]
    seeds: int = 1
    valid_fraction: float = 0.05
    views: int = 15
    selection: Selection = field(default_factory=Selection)

    def recipe(self, family: str, *, option: str = "--family") -> Recipe:
        """Raises InputError, of the option that asked for it, where the preset has no such family."""
        for recipe in self.recipes:
            if recipe.family == family:
                return recipe
        known = ", ".join(recipe.family for recipe in self.recipes)
        raise InputError(option, f"preset {self.name} has no family {family!r}", f"choose one of {known}")


def to_json(config: Any) -> dict[str, Any]:
    """The dataclass as JSON reads it back, tuples as lists: what was saved compares equal with what is at hand."""
    return json.loads(json.dumps(asdict(config)))


def recipe_from_json(value: Mapping[str, Any]) -> Recipe:
    """The inverse of `to_json` for a Recipe."""
    training = dict(value["training"])
    training["augmentation"] = Augmentation(**training["augmentation"])
    return Recipe(**{**value, "sizes": dict(value["sizes"]), "training": Training(**training)})
