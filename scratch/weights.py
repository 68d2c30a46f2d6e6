"""Parameters as a file: an .npz of plain arrays w0, b0, w1, b1, ... It holds no code, and reading it runs none."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scratch.mlp import Params

LIMIT = 1 << 28
"""Bytes that a file of weights may unpack to: the largest recipe's take a fiftieth."""


def save_params(path: Path, params: Params) -> None:
    """Writes `path` whole or not at all: beside its place first, then renamed."""
    arrays: dict[str, Any] = {}
    for layer, (w, b) in enumerate(params):
        arrays |= {f"w{layer}": w, f"b{layer}": b}
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with open(draft, "wb") as file:
            np.savez(file, **arrays)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_params(path: Path) -> Params:
    """-> [(w, b), ...] as saved. ValueError, in one line, for a file that holds no such chain of layers."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                size = sum(member.file_size for member in archive.zip.infolist())
                arrays = {name: np.asarray(archive[name]) for name in archive} if size <= LIMIT else {}
        except Exception as error:  # NumPy, zipfile, zlib and Python's parser each have their own for a damaged file
            raise ValueError(f"{path}: is not a file of weights ({type(error).__name__})") from error
    if size > LIMIT:
        raise ValueError(f"{path}: unpacks to {size:,} bytes, more than {LIMIT:,}")
    names = [(f"w{layer}", f"b{layer}") for layer in range(len(arrays) // 2)]
    if not arrays or set(arrays) != {name for pair in names for name in pair}:
        raise ValueError(f"{path}: holds the arrays {sorted(arrays)}, not w0, b0, w1, b1, ...")
    pairs = [(arrays[w], arrays[b]) for w, b in names]
    chained = all(left[0].shape[1:] == right[0].shape[:1] for left, right in pairwise(pairs))
    if not chained or any(w.ndim != 2 or w.shape[1:] != b.shape for w, b in pairs):
        raise ValueError(f"{path}: its arrays are no chain of layers: {[(w.shape, b.shape) for w, b in pairs]}")
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError(f"{path}: its arrays are not all floating point")
    return pairs
