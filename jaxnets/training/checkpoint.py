"""Training states on disk, through orbax: one folder a step, complete or absent, the newest kept."""

import logging
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxnets.files import remove

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax tells there about every file it opens


def save(folder: Path, step: int, items: dict[str, Any]) -> None:
    """Writes the trees of arrays `items` as folder/STEP, waits until they are there, then drops the older steps.

    Those are renamed first: a step that a kill left half deleted would still be listed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    args = {name: ocp.args.StandardSave(jax.tree.map(np.asarray, tree)) for name, tree in items.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder.absolute() / str(step), args=ocp.args.Composite(**args))
    for old in steps(folder)[:-1]:
        os.rename(folder / str(old), folder / f"{old}.old")
    for leftover in folder.iterdir():
        if not leftover.name.isdigit():
            remove(leftover)


def restore(folder: Path, like: dict[str, Any]) -> dict[str, Any] | None:
    """Those items of the newest step that `like` names, as NumPy arrays in its trees (of arrays or of shapes).

    None where the folder holds no step. An item that is not named is not read.
    """
    found = steps(folder)
    if not found:
        return None
    shapes = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    args = {name: ocp.args.StandardRestore(tree) for name, tree in shapes.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(folder.absolute() / str(found[-1]), args=ocp.args.Composite(**args))
    return {name: restored[name] for name in like}


def steps(folder: Path) -> list[int]:
    """The steps that `folder` holds, rising."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
