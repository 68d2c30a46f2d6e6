"""Changes to a preset on the command line: `--training.learning-rate 1e-3`, `--training.augmentation.zoom 0`,
`--sizes width 32 depth 5`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from typing import Annotated, Any, get_type_hints

import tyro

from jaxnets.config import Preset
from jaxnets.errors import InputError


def default(text: str) -> Any:
    """Return an annotation for an option whose default is None: its help shows this default instead."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


@cache
def optional_fields(config: type) -> type:
    """Return a dataclass with the fields of `config`, nested ones too, whose defaults are None.

    It inherits from `config` because tyro takes the help texts from the source of its bases.
    """
    hints = get_type_hints(config)
    members: list[Any] = []
    for name in (config_field.name for config_field in fields(config)):
        if is_dataclass(hints[name]):
            nested = optional_fields(hints[name])
            members.append((name, nested, field(default_factory=nested)))
        else:
            members.append((name, Annotated[hints[name] | None, default("the preset's")], None))
    unchecked = {"__post_init__": lambda self: None}  # None is no number
    return make_dataclass(
        f"{config.__name__}Changes", members, bases=(config,), namespace=unchecked, frozen=True, kw_only=True
    )


def given(changes: Any) -> dict[str, Any]:
    """Return the fields that are not None, by name; nested dictionaries for nested dataclasses."""
    values = {change.name: getattr(changes, change.name) for change in fields(changes)}
    nested = {name: given(value) if is_dataclass(value) else value for name, value in values.items()}
    return {name: value for name, value in nested.items() if value not in (None, {})}


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """Return `config` with these values, which have the form that `given` returns."""
    nested = {name: changed(getattr(config, name), value) for name, value in values.items() if isinstance(value, dict)}
    return replace(config, **{**values, **nested})


def size_names(family: str) -> set[str]:
    """The integer arguments of a family's model, except those that follow from the data."""
    from jaxnets.models import MODELS

    hints = get_type_hints(MODELS[family].__init__)  # type: ignore[misc]
    return {name for name, kind in hints.items() if kind in (int, int | None)} - {"in_channels", "num_classes"}


def change_preset(preset: Preset, training: Any, sizes: Mapping[str, int]) -> Preset:
    """Return the preset with these changes in every recipe whose family has such a size.

    Its name then ends in a hash of the changes. Raises InputError if no family has a size of that name, or if a value
    is not allowed.
    """
    values = given(training)
    if not values and not sizes:
        return preset
    names = {recipe.family: size_names(recipe.family) for recipe in preset.recipes}
    known = set().union(*names.values())
    for name in sorted(sizes.keys() - known):
        raise InputError("--sizes", f"no model has a size {name!r}", f"choose among {', '.join(sorted(known))}")
    recipes = tuple(
        replace(
            recipe,
            sizes={**recipe.sizes, **{name: size for name, size in sizes.items() if name in names[recipe.family]}},
            training=changed(recipe.training, values),
        )
        for recipe in preset.recipes
    )
    text = json.dumps([values, dict(sizes)], sort_keys=True)
    return replace(preset, name=f"{preset.name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}", recipes=recipes)
