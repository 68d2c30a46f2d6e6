"""A trained model's weights in one .npz file of plain arrays, which NumPy can read by itself."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.bounded import open_file, open_zip
from jaxnets.store.npz import read_array, read_header

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of this repository's pretrained models: FAMILY/config.json and FAMILY/weights.npz."""
REFETCH_HINT = "fetch it again"


def flatten_named(arrays: Any) -> dict[str, Any]:
    """Return the leaves of a tree of arrays by name, such as params/stem/kernel."""
    leaves, _ = jax.tree.flatten_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def write_weights(path: Path, arrays: Any) -> None:
    """Write a tree of arrays as an .npz file."""
    named: dict[str, Any] = jax.tree.map(np.asarray, flatten_named(arrays))
    with path.open("wb") as file:
        np.savez(file, **named)


def read_weights(path: Path, like: Any) -> Any:
    """Return the arrays of an .npz file as a tree like `like`, whose leaves have a shape and a dtype.

    Nothing is decompressed before all names, shapes and dtypes are found to match.

    Raises:
        InputError: the file cannot be read, is damaged, holds other arrays than `like`, or a value is not finite.
    """
    expected = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in flatten_named(like).items()}
    with open_file(path) as file, open_zip(file, path) as archive:
        found = {}
        for member in archive.namelist():
            header = read_header(archive, member, f"{path}/{member:.60}")
            found[member.removesuffix(".npy")] = header.shape, header.dtype
        if different := sorted(name for name in found | expected if found.get(name) != expected.get(name)):
            raise InputError(path, f"holds the weights of another model: {different[0]:.60} differs", REFETCH_HINT)
        arrays = {name: read_array(archive, f"{name}.npy", f"{path}/{name}") for name in expected}
    # Predictions may look valid: XLA's ReLU on a CPU turns NaN into zero.
    if infinite := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise InputError(path, f"is damaged: {infinite[0]} is not finite", REFETCH_HINT)
    return jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))
