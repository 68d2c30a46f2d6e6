"""The preset of an experiment: a named one with the changes of the command line."""

from dataclasses import replace
from typing import Any

from jaxnets import recipes
from jaxnets.config import Preset, to_json
from jaxnets.errors import InputError

from .options import Options, check_count
from .overrides import change_preset


def shared_settings(preset: Preset) -> dict[str, Any]:
    """Return the preset as JSON, without what a later start may change: families, seeds, students and views."""
    changing = ("families", "seeds", "students", "views")
    return {name: value for name, value in to_json(preset).items() if name not in changing}


def chosen_preset(options: Options, default: str) -> Preset:
    """Return the preset of that name, or the default if it is auto, with the changes of the command line."""
    preset = recipes.preset(default if options.preset == "auto" else options.preset)
    check_count("--seeds", options.seeds)
    check_count("--views", options.views)
    preset = replace(preset, seeds=options.seeds or preset.seeds, views=options.views or preset.views)
    if options.families:
        check_families(preset, options.families, option="--families")
        students = tuple(family for family in preset.students if family in options.families)
        preset = replace(preset, families=options.families, students=students)
    if options.students is not None:
        check_families(preset, options.students, option="--students")
        preset = replace(preset, students=options.students)
    if preset.students and preset.valid_fraction == 0 and options.fold is None:
        problem = f"need a calibrated ensemble, and preset {preset.name} holds out no rows to calibrate it on"
        raise InputError("--students", problem, "leave them out, or hold out a fold with --fold")
    return change_preset(preset, options.training, options.sizes)


def check_families(preset: Preset, families: tuple[str, ...], *, option: str) -> None:
    """Raise InputError if the preset lacks one of the families, or one is given twice."""
    for family in families:
        preset.recipe(family, option=option)
    if len(set(families)) < len(families):
        raise InputError(option, "names a family twice", "name each once")
