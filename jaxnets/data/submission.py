"""Kaggle's submission file: one predicted class per test image."""

from pathlib import Path

import numpy as np

from jaxnets.data.csv_text import clean_text, format_field
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import read_bytes

MAX_SUBMISSION_BYTES = 100_000_000


def write_submission(path: Path, labels: np.ndarray) -> None:
    """Write the predicted classes (T,), non-negative integers, as lines `ImageId,Label`; ids start at 1.

    Raises InputError if the labels are others, or if the file cannot be written.
    """
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(path, f"labels are {labels.dtype} {labels.shape}", "give one non-negative integer per image")
    rows = [f"{number},{label}\n" for number, label in enumerate(labels.tolist(), 1)]
    with atomic_file(path) as temporary:
        temporary.write_bytes("".join(["ImageId,Label\n", *rows]).encode())


def read_submission(path: Path) -> np.ndarray:
    """Return the labels (T,) int32 in the order of their ids, which are 1 to T, each once.

    Raises InputError, with the line of the first fault.
    """
    text = clean_text(read_bytes(path, limit=MAX_SUBMISSION_BYTES), path)
    header, *lines = text.removesuffix(b"\n").split(b"\n")
    if header != b"ImageId,Label":
        raise InputError(f"{path}:1", f"header is {format_field(header)}", "make it ImageId,Label")
    if not lines:
        raise InputError(path, "has a header and no rows", "add a row for each image")
    labels = np.full(len(lines), -1, np.int32)
    for row, line in enumerate(lines, 2):
        fields = line.split(b",")
        if len(fields) != 2 or not all(field.isdigit() and len(field) < 10 for field in fields):
            raise InputError(f"{path}:{row}", f"{format_field(line)} is not an id and a class", "write two integers")
        number, label = map(int, fields)
        if not 1 <= number <= len(lines):
            raise InputError(f"{path}:{row}", f"id {number} is not from 1 to {len(lines)}", "number the rows from 1")
        if labels[number - 1] >= 0:
            raise InputError(f"{path}:{row}", f"duplicate id {number}", "keep one row per id")
        labels[number - 1] = label
    return labels
