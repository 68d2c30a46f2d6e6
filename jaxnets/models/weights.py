"""A trained network's weights as one file of plain arrays, which NumPy reads without anything else."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

PRETRAINED = Path(__file__).parents[2] / "checkpoints" / "pretrained"
"""Where this repository keeps the networks that it ships: FAMILY/config.json and FAMILY/weights.npz."""


def by_name(arrays: Any) -> dict[str, Any]:
    """A tree of arrays -> its leaves under names such as params/stem/kernel."""
    leaves, _ = jax.tree.flatten_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def write_weights(path: Path, arrays: Any) -> None:
    named: dict[str, Any] = jax.tree.map(np.asarray, by_name(arrays))
    with path.open("wb") as file:
        np.savez(file, **named)


def read_weights(path: Path, like: Any) -> Any:
    """The tree `like` (its leaves have shape and dtype) with the arrays of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds other arrays than `like` asks for, or numbers that are not finite.
    """
    wanted = by_name(like)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for a damaged file
        raise ValueError(f"{path} is damaged: {error}") from error
    shapes = lambda tree: {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in tree.items()}
    if shapes(arrays) != shapes(wanted):
        different = sorted(set(shapes(arrays).items()) ^ set(shapes(wanted).items()))[0]
        raise ValueError(f"{path} holds the weights of another network: {different[0]} differs")
    for name, array in arrays.items():  # the answers need not tell: XLA's ReLU on a CPU makes NaN a zero
        if not np.isfinite(array).all():
            raise ValueError(f"{path} holds values that are not finite, in {name}")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])
