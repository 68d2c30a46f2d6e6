"""Kaggle's submission file: one predicted class per test image."""

from pathlib import Path

import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file


def write_submission(path: Path, labels: np.ndarray) -> None:
    """Write the predicted classes (T,), non-negative integers, as lines `ImageId,Label`; ids start at 1.

    Raises InputError if the labels are others, or if the file cannot be written.
    """
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(path, f"labels are {labels.dtype} {labels.shape}", "give one non-negative integer per image")
    rows = [f"{number},{label}\n" for number, label in enumerate(labels.tolist(), 1)]
    with atomic_file(path) as temporary:
        temporary.write_bytes("".join(["ImageId,Label\n", *rows]).encode())
