"""Parameters as a file: an .npz of plain arrays w0, b0, w1, b1, ... It holds no code, and reading it runs none."""

import os
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from scratch.mlp import Params


def save_params(path: Path, params: Params) -> None:
    """Writes `path` whole or not at all: beside its place first, then renamed."""
    arrays: dict[str, np.ndarray] = {}
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
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pairs = [(arrays[f"w{layer}"], arrays[f"b{layer}"]) for layer in range(len(arrays.files) // 2)]
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is not a file of weights ({error})") from error
    chained = all(left[0].shape[1:] == right[0].shape[:1] for left, right in pairwise(pairs))
    if not pairs or not chained or any(w.ndim != 2 or w.shape[1:] != b.shape for w, b in pairs):
        raise ValueError(f"{path}: its arrays are no chain of layers: {[(w.shape, b.shape) for w, b in pairs]}")
    return pairs
