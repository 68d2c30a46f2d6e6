"""Checkpoints of other models, shapes and dtypes in a training's folder.

The error lists the first three arrays that differ; none is cast or cropped.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.recipes import smoke
from jaxnets.runs import RunConfig
from jaxnets.store import checkpoint
from jaxnets.training.loop import make_train_loop
from tests.faults.cases import DIGITS, SMOKE
from tests.faults.entries import listing, start
from tests.faults.trial import Trial

Items = dict[str, Any]
TRAIN = ["train", *SMOKE, *DIGITS, "--family", "wide_cnn"]


def config(family: str = "wide_cnn", **sizes: int) -> RunConfig:
    recipe = smoke().recipe(family)
    recipe = replace(recipe, sizes={**recipe.sizes, **sizes})
    facts = {"seed": 0, "precision": "float32", "data": "digits", "data_sha256": ""}
    return RunConfig(recipe=recipe, image_shape=(8, 8, 1), num_classes=10, **facts)  # type: ignore[arg-type]


def items(config: RunConfig) -> Items:
    """Return the initial state of a training, as `fit` saves it."""
    state = make_train_loop(config, 1000).start(config.seed)
    return {"average": state.average, "rest": state._replace(average={})}


def cast(dtype: Any, *, tree: str = "average") -> Callable[[Items], Items]:
    """Return a change that casts every array of a tree."""
    return lambda ours: ours | {tree: jax.tree.map(lambda leaf: leaf.astype(dtype), ours[tree])}


def transpose(leaf: Any) -> Any:
    return np.asarray(leaf).T


def kernels(change: Callable[[Any], Any]) -> Callable[[Items], Items]:
    """Return a change of every kernel of the EMA parameters."""

    def changed(ours: Items) -> Items:
        visit = lambda path, leaf: change(leaf) if leaf.ndim == 4 else leaf
        return ours | {"average": jax.tree_util.tree_map_with_path(visit, ours["average"])}

    return changed


def without(ours: Items) -> Items:
    params = {name: tree for name, tree in ours["average"]["params"].items() if name != "head"}
    return ours | {"average": ours["average"] | {"params": params}}


def with_more(ours: Items) -> Items:
    return ours | {"average": ours["average"] | {"more": {"kernel": np.ones(3)}}}


CHANGES: dict[str, tuple[RunConfig, Callable[[Items], Items]]] = {
    "another family": (config("senet"), dict),
    "wider": (config(width=16), dict),
    "deeper": (config(depth=3), dict),
    "fewer classes": (replace(config(), num_classes=2), dict),
    "colour images": (replace(config(), image_shape=(8, 8, 3)), dict),
    "NumPy float16": (config(), lambda ours: cast(np.float16)(jax.tree.map(np.asarray, ours))),
    "JAX bfloat16": (config(), cast(jnp.bfloat16)),
    "NumPy float64": (config(), lambda ours: cast(np.float64)(jax.tree.map(np.asarray, ours))),
    "transposed kernels": (config(), kernels(transpose)),
    "kernels with an extra axis": (config(), kernels(lambda leaf: leaf[None])),
    "a missing layer": (config(), without),
    "an extra layer": (config(), with_more),
}


def others(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    ours = checkpoint.array_specs(items(config()))
    names, job = list(CHANGES), folder / "begun"
    job.mkdir()
    assert start(TRAIN, job).code == 0
    for number in sorted(rng.permutation(len(names))[:trials]):
        name, place = names[number], folder / str(number)
        of, change = CHANGES[name]
        theirs = change(items(of))
        state = place / "out" / "members" / ".wide_cnn-0.unfinished" / "state"
        checkpoint.save(state, 7, theirs, {"history": []})
        shutil.copy(job / "out" / "job.json", place / "out")
        before, ended = listing(state), start(TRAIN, place)
        failure = message_problem(ended.stderr, ours, checkpoint.array_specs(theirs))
        if ended.code != 2 or listing(state) != before:
            failure = f"exit {ended.code}: {ended.stderr}"
        yield Trial(True, f"{name}: {failure}" if failure else "")


def message_problem(stderr: str, ours: dict[str, str], theirs: dict[str, str]) -> str:
    """Return the message unless it is one line with the first three differences."""
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    told = [f"{name} is {theirs.get(name, 'missing')}, expected {ours.get(name, 'none')}" for name in different[:3]]
    right = stderr.count("\n") == 1 and different and all(text in stderr for text in told)
    return "" if right else stderr
