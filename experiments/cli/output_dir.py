"""Ties an output directory to one configuration, and records the environments that computed the results in it."""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json

from .run_dir import RunDir

ENVIRONMENTS = ("fingerprint", "later_fingerprints")
"""Keys of job.json that are not settings: the environment of the first start, and those that came later."""


def register(out: Path, settings: dict[str, Any], notes: dict[str, Any] | None = None, *, resume: bool = True) -> None:
    """Tie the directory to these settings: write job.json, or compare with the one that is there.

    Args:
        out: an existing directory.
        settings: what must not change, as JSON.
        notes: what is recorded in addition and may change.
        resume: whether the directory may have been used before.

    Raises:
        InputError: the directory has other settings, or holds results but no job.json.
    """
    path = RunDir(out).settings
    if not os.path.lexists(path):
        try:
            check_unused(out)
            write_json(path, settings | (notes or {}), new=True)
            return
        except InputError:
            if not os.path.lexists(path):  # else another program has registered it in the meantime
                raise
    saved = read_json(path, "give another --out")
    different = [
        difference(name, saved.get(name), value) for name, value in settings.items() if saved.get(name) != value
    ]
    if different:
        fix = "give another --out, or the same options as before"
        raise InputError(path, f"the results there were made with another {' and '.join(different)}", fix)
    if not resume:
        raise InputError(out, "was used before", "give another --out, or leave out --no-resume to continue")


def difference(name: str, saved: Any, given: Any) -> str:
    """Describe the first value in which two JSON values differ: `preset.recipes.0.training.epochs (4, not 6)`."""
    pairs = []
    if isinstance(saved, dict) and isinstance(given, dict):
        keys = sorted({**saved, **given}, key=lambda key: key == "name")  # a changed preset's name says less
        pairs = [(key, saved.get(key), given.get(key)) for key in keys]
    elif isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given):
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(saved, given, strict=True))]
    for key, before, now in pairs:
        if before != now:
            return difference(f"{name}.{key}", before, now)
    return f"{name} ({saved!r:.20}, not {given!r:.20})"


def check_unused(out: Path) -> None:
    """Raise InputError if the directory holds directories or results: it may be a home directory or the repository."""
    results = [path.name for path in RunDir(out).results]
    for entry in os.scandir(out):
        if entry.is_dir() or entry.name in results:
            problem = f"holds {entry.name!r:.60}, but no job.json"
            raise InputError(out, problem, "give another --out, or an empty directory")


def read_settings(out: Path) -> dict[str, Any]:
    """Return the settings in job.json, without the environments that computed with them."""
    return {name: value for name, value in read_json(RunDir(out).settings).items() if name not in ENVIRONMENTS}


def compare_once(out: Path, now: dict[str, Any], *, identical: bool) -> Callable[[], None]:
    """Return a function that calls `compare_environment` the first time, so that it warns once."""
    return cache(partial(compare_environment, out, now, identical=identical))


def compare_environment(out: Path, now: dict[str, Any], *, identical: bool) -> None:
    """Warn if a part of the results was computed in another environment than `now`, and record `now` in job.json.

    Raises:
        InputError: instead of the warning, if the results must be bitwise `identical`; or job.json is damaged.
    """
    from jaxnets.store.fingerprint import check_same_environment

    path = RunDir(out).settings
    saved = read_json(path)
    first, later = saved.get("fingerprint", {}), saved.get("later_fingerprints", [])
    if not isinstance(later, list) or not all(isinstance(environment, dict) for environment in (first, *later)):
        raise InputError(path, "is damaged: a fingerprint is not an object", "give another --out")
    check_same_environment(out, [first, *later], now, identical=identical)
    if now not in (first, *later):
        write_json(path, saved | {"later_fingerprints": [*later, now]})
