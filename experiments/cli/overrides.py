"""Fields of a recipe on the command line: `--training.learning-rate 1e-3`, `--training.augmentation.zoom 0`,
`--sizes width 32 depth 5`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from jaxnets.config import Preset


@cache
def optional_fields(config: type) -> type:
    """A dataclass with the fields of `config`, nested ones too, that are None unless given."""
    hints, members = get_type_hints(config), []
    for name in (one.name for one in fields(config)):
        kind = optional_fields(hints[name]) if is_dataclass(hints[name]) else hints[name] | None
        members.append((name, kind, field(default_factory=kind) if is_dataclass(kind) else None))
    return make_dataclass(f"{config.__name__}Changes", members, frozen=True, kw_only=True)


def given(changes: Any) -> dict[str, Any]:
    """-> the fields that were given, by name; nested dictionaries for nested dataclasses."""
    values = {one.name: getattr(changes, one.name) for one in fields(changes)}
    nested = {name: given(value) if is_dataclass(value) else value for name, value in values.items()}
    return {name: value for name, value in nested.items() if value not in (None, {})}


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """`config` with these values, as `given` returns them."""
    nested = {name: changed(getattr(config, name), value) for name, value in values.items() if isinstance(value, dict)}
    return replace(config, **{**values, **nested})


def change_preset(preset: Preset, training: Any, sizes: Mapping[str, int]) -> Preset:
    """The preset with these changes in every recipe. Its name then ends in a hash of them."""
    values = given(training)
    if not values and not sizes:
        return preset
    recipes = tuple(
        replace(recipe, sizes={**recipe.sizes, **sizes}, training=changed(recipe.training, values))
        for recipe in preset.recipes
    )
    text = json.dumps([values, dict(sizes)], sort_keys=True)
    return replace(preset, name=f"{preset.name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}", recipes=recipes)
