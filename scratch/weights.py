"""Parameters as a file: an .npz of arrays w0, b0, w1, b1, ... Reading it runs no code."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scratch.mlp import Params

MAX_BYTES = 1 << 28
"""Largest unpacked size of a file; the parameters of the largest recipe take a fiftieth."""


def save_params(path: Path, params: Params) -> None:
    """Write parameters to `path`."""
    arrays: dict[str, Any] = {}
    for layer, (w, b) in enumerate(params):
        arrays |= {f"w{layer}": w, f"b{layer}": b}
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_params(path: Path) -> Params:
    """Return the parameters [(w, b), ...] saved in `path`. Raises ValueError if the file is damaged or does not hold a
    chain of layers."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                size = sum(member.file_size for member in archive.zip.infolist())
                arrays = {name: np.asarray(archive[name]) for name in archive} if size <= MAX_BYTES else {}
        except Exception as error:  # NumPy, zipfile, zlib and Python's parser raise different ones
            raise ValueError(f"{path}: is not a file of weights ({type(error).__name__})") from error
    if size > MAX_BYTES:
        raise ValueError(f"{path}: unpacks to {size:,} bytes, more than {MAX_BYTES:,}")
    names = [(f"w{layer}", f"b{layer}") for layer in range(len(arrays) // 2)]
    if not arrays or set(arrays) != {name for pair in names for name in pair}:
        raise ValueError(f"{path}: holds the arrays {sorted(arrays)}, not w0, b0, w1, b1, ...")
    pairs = [(arrays[w], arrays[b]) for w, b in names]
    chained = all(left[0].shape[1:] == right[0].shape[:1] for left, right in pairwise(pairs))
    if not chained or any(w.ndim != 2 or w.shape[1:] != b.shape for w, b in pairs):
        raise ValueError(f"{path}: its arrays are not a chain of layers: {[(w.shape, b.shape) for w, b in pairs]}")
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError(f"{path}: its arrays are not all floating point")
    return pairs
