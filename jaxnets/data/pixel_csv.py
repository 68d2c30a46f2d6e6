"""Kaggle's tables of digits: one image per row, every value an integer, parsed strictly and fast.

A vectorised parser checks and converts a block of rows at once. Only if it rejects a block does a slow parser go
through it, to name the row and the column at fault.
"""

import re
from typing import NoReturn

import numpy as np

from jaxnets.data.csv_text import REFETCH_HINT, clean_text, format_field
from jaxnets.errors import InputError

PIXELS = [f"pixel{index}" for index in range(784)]  # row-major: pixel k is row k // 28, column k % 28
BLOCK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 15
"""Four times the size of the right header."""
ORIGINAL_HINT = "use the file as downloaded from Kaggle"
NUMBER = re.compile(rb"[0-9]{1,3}")


def decode_train(content: bytes, location: object) -> tuple[np.ndarray, np.ndarray]:
    """Return train.csv's images (N, 28, 28, 1) uint8 and labels (N,) uint8 in [0, 10).

    Raises InputError, with the line and the column of the first fault.
    """
    table = decode(content, ["label", *PIXELS], location)
    return table[:, 1:].reshape(-1, 28, 28, 1), table[:, 0]


def decode_test(content: bytes, location: object) -> np.ndarray:
    """Return test.csv's images (T, 28, 28, 1) uint8. Raises InputError as `decode_train` does."""
    return decode(content, PIXELS, location).reshape(-1, 28, 28, 1)


def decode(content: bytes, names: list[str], location: object) -> np.ndarray:
    """Return a table with these columns: (rows, columns) uint8."""
    text = clean_text(content, location)
    start = text.index(b"\n") + 1
    check_header(text[: start - 1], names, location)
    if start == len(text):
        raise InputError(location, "has a header and no rows", REFETCH_HINT)
    blocks: list[np.ndarray] = []
    while start < len(text):
        end = text.find(b"\n", start + BLOCK_BYTES) + 1 or len(text)
        values = parse_block(text[start:end], names)
        if values is None:
            raise_first_fault(text[start:end], 2 + sum(map(len, blocks)), names, location)
        blocks.append(values)
        start = end
    return np.concatenate(blocks)


def max_value(name: str) -> int:
    """Return the largest value of a column: 9 for labels, 255 for pixels."""
    return 9 if name == "label" else 255


def parse_block(block: bytes, names: list[str]) -> np.ndarray | None:
    """Return whole rows as (rows, columns) uint8, or None if any byte is out of place."""
    if len(block) > BLOCK_BYTES + 4 * len(names):  # the last row is longer than any valid row
        return None
    text = np.frombuffer(block, np.uint8)
    digits = text - np.uint8(ord("0"))  # other characters wrap to 10 and more
    ends = np.flatnonzero(digits > 9)
    if ends.size % len(names):
        return None
    separators = text[ends].reshape(-1, len(names))
    if (separators[:, :-1] != ord(",")).any() or (separators[:, -1] != ord("\n")).any():
        return None
    widths = np.diff(ends, prepend=-1) - 1
    if widths.min() < 1 or widths.max() > 3:
        return None
    values = digits[ends - 1].astype(np.int16)
    for width, power in ((2, 10), (3, 100)):
        wide = np.flatnonzero(widths >= width)
        values[wide] += power * digits[ends[wide] - width].astype(np.int16)
    values = values.reshape(-1, len(names))
    if (values > [max_value(name) for name in names]).any():
        return None
    return values.astype(np.uint8)


def raise_first_fault(block: bytes, first_row: int, names: list[str], location: object) -> NoReturn:
    """Raise InputError for the first fault of a block that `parse_block` has rejected."""
    header = ",".join(names).encode()
    for row, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_row):
        if line == header:
            raise InputError(f"{location}:{row}", "a second header: two files are joined", "split them")
        if not line.strip():
            raise InputError(f"{location}:{row}", "the line is empty", "remove it")
        if (count := line.count(b",") + 1) != len(names):
            fix = f"{REFETCH_HINT}, or correct the row"
            raise InputError(f"{location}:{row}", f"has {count} columns, expected {len(names)}", fix)
        for name, field in zip(names, line.split(b","), strict=True):
            if not NUMBER.fullmatch(field) or int(field) > max_value(name):
                problem = f"{name} is {format_field(field)}, not an integer from 0 to {max_value(name)}"
                raise InputError(f"{location}:{row}", problem, "correct or remove the row")
    raise AssertionError("the fast parser rejected rows in which the slow parser finds no fault")


def check_header(header: bytes, names: list[str], location: object) -> None:
    """Raise InputError unless the header has exactly these columns."""
    found = header[:MAX_HEADER_BYTES].decode("utf-8", "replace").split(",")
    if found != names:
        raise InputError(f"{location}:1", header_problem(found, names), ORIGINAL_HINT)


def header_problem(found: list[str], names: list[str]) -> str:
    """Return how the columns `found` differ from `names`."""
    if set(found) ^ set(names) == {"label"}:
        return f"has {'a' if 'label' in found else 'no'} label column: train.csv and test.csv look swapped"
    if all(NUMBER.fullmatch(field.encode()) for field in found):
        return "has no header"
    for index, field in enumerate(found):
        if field in found[:index]:
            return f"has a duplicate column {field!r:.40}"
    if missing := [name for name in names if name not in found]:
        count = sum(field.startswith("pixel") for field in found)
        return f"has no column {missing[0]} ({count} pixel columns, expected 784 for images of 28 x 28)"
    if extra := [field for field in found if field not in names]:
        return f"has an extra column {extra[0]!r:.40}"
    column = next(index for index, name in enumerate(names) if found[index] != name)
    return f"has its columns in another order: column {column + 1} is {found[column]}, expected {names[column]}"
