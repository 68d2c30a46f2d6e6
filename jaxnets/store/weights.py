"""A trained network's weights as one file of plain arrays, which NumPy reads without anything else."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.lib import format as npy

PRETRAINED = Path(__file__).parents[2] / "checkpoints" / "pretrained"
"""Where this repository keeps the networks that it ships: FAMILY/config.json and FAMILY/weights.npz."""


def flatten_named(arrays: Any) -> dict[str, Any]:
    """A tree of arrays -> its leaves under names such as params/stem/kernel."""
    leaves, _ = jax.tree.flatten_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def write_weights(path: Path, arrays: Any) -> None:
    named: dict[str, Any] = jax.tree.map(np.asarray, flatten_named(arrays))
    with path.open("wb") as file:
        np.savez(file, **named)


def read_weights(path: Path, like: Any) -> Any:
    """The tree `like` (its leaves have shape and dtype) with the arrays of the file, of which nothing is unpacked
    unless they are those.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds other arrays than `like` asks for, or some that are not finite.
    """
    wanted = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in flatten_named(like).items()}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: kind(archive.zip, f"{name}.npy") for name in archive.files}
            arrays = {name: archive[name] for name in wanted} if found == wanted else {}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for a damaged file
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())[:60]}") from error
    if found != wanted:
        different = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        raise ValueError(f"{path} holds the weights of another network: {different[0]:.60} differs")
    # The answers need not tell: XLA's ReLU on a CPU makes a zero of what is not a number.
    if infinite := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise ValueError(f"{path} is damaged: {infinite[0]} is not finite")
    return jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))


def refuse_changed(folder: Path, *names: str) -> None:
    """Raise ValueError unless the folder has a seal.json and these files have the checksums that it lists."""
    path = folder / "seal.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no seal.json, so its files cannot be checked: fetch the network again")
    try:
        sealed = json.loads(path.read_bytes())["files"]
        told = [sealed[name] for name in names]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error!r:.60}") from error
    for name, sha256 in zip(names, told, strict=True):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{folder / name} is damaged: it is not as it was sealed")


def kind(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, from its header."""
    with archive.open(member) as file:
        stream = io.BytesIO(file.read(1 << 14))  # NumPy would read as long a header as is claimed
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype
