"""Kaggle's tables of digits: one image a row, every value a whole number, read strictly and fast.

The fast way checks and converts a block of rows at once. Only when it meets something odd does the slow way go
through that block to name the row and the column.
"""

import re
from typing import NoReturn

import numpy as np

from jaxnets.data.csv_text import AGAIN, clean_text, shown
from jaxnets.errors import InputError

PIXELS = [f"pixel{index}" for index in range(784)]  # row-major: pixel k is row k // 28, column k % 28
BLOCK = 1 << 20
HEADER = 1 << 15  # bytes that are looked at; a good one takes a quarter
ORIGINAL = "use the file as downloaded from Kaggle"
NUMBER = re.compile(rb"[0-9]{1,3}")


def decode_train(content: bytes, place: object) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of train.csv -> images (N, 28, 28, 1) uint8, labels (N,) uint8 in [0, 10)."""
    table = decode(content, ["label", *PIXELS], place)
    return table[:, 1:].reshape(-1, 28, 28, 1), table[:, 0]


def decode_test(content: bytes, place: object) -> np.ndarray:
    """The bytes of test.csv -> images (T, 28, 28, 1) uint8."""
    return decode(content, PIXELS, place).reshape(-1, 28, 28, 1)


def decode(content: bytes, names: list[str], place: object) -> np.ndarray:
    """(rows, columns) uint8; InputError naming the line of the file and the column of the first fault."""
    text = clean_text(content, place)
    start = text.index(b"\n") + 1
    check_header(text[: start - 1], names, place)
    if start == len(text):
        raise InputError(place, "has a header and no rows", AGAIN)
    blocks: list[np.ndarray] = []
    while start < len(text):
        end = text.find(b"\n", start + BLOCK) + 1 or len(text)
        values = fast(text[start:end], names)
        if values is None:
            slow(text[start:end], 2 + sum(map(len, blocks)), names, place)
        blocks.append(values)
        start = end
    return np.concatenate(blocks)


def top(name: str) -> int:
    return 9 if name == "label" else 255


def fast(block: bytes, names: list[str]) -> np.ndarray | None:
    """Whole rows of numbers -> (rows, columns) uint8, or None if any byte of them is out of place."""
    if len(block) > BLOCK + 4 * len(names):  # the last row is longer than any good row
        return None
    text = np.frombuffer(block, np.uint8)
    digits = text - np.uint8(ord("0"))  # all that is no digit wraps to 10 and more
    ends = np.flatnonzero(digits > 9)
    if ends.size % len(names):
        return None
    marks = text[ends].reshape(-1, len(names))
    if (marks[:, :-1] != ord(",")).any() or (marks[:, -1] != ord("\n")).any():
        return None
    widths = np.diff(ends, prepend=-1) - 1
    if widths.min() < 1 or widths.max() > 3:
        return None
    values = digits[ends - 1].astype(np.int16)
    for width, power in ((2, 10), (3, 100)):
        wide = np.flatnonzero(widths >= width)
        values[wide] += power * digits[ends[wide] - width].astype(np.int16)
    values = values.reshape(-1, len(names))
    if (values > [top(name) for name in names]).any():
        return None
    return values.astype(np.uint8)


def slow(block: bytes, first_row: int, names: list[str], place: object) -> NoReturn:
    """Raises for the first fault of a block that the fast way refused."""
    header = ",".join(names).encode()
    for row, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_row):
        if line == header:
            raise InputError(f"{place}:{row}", "a second header: two files are joined", "split them")
        if not line.strip():
            raise InputError(f"{place}:{row}", "the line is empty", "remove it")
        if (count := line.count(b",") + 1) != len(names):
            raise InputError(f"{place}:{row}", f"has {count} columns, not {len(names)}", f"{AGAIN}, or mend the row")
        for name, field in zip(names, line.split(b","), strict=True):
            if not NUMBER.fullmatch(field) or int(field) > top(name):
                problem = f"{name} is {shown(field)}, not a whole number from 0 to {top(name)}"
                raise InputError(f"{place}:{row}", problem, "mend or remove the row")
    raise AssertionError("the fast way refused rows in which the slow way finds no fault")


def check_header(header: bytes, names: list[str], place: object) -> None:
    found = header[:HEADER].decode("utf-8", "replace").split(",")
    if found != names:
        raise InputError(f"{place}:1", header_problem(found, names), ORIGINAL)


def header_problem(found: list[str], names: list[str]) -> str:
    if set(found) ^ set(names) == {"label"}:
        return f"has {'a' if 'label' in found else 'no'} label column: train.csv and test.csv look swapped"
    if all(NUMBER.fullmatch(field.encode()) for field in found):
        return "has no header"
    for index, field in enumerate(found):
        if field in found[:index]:
            return f"column {field!r:.40} stands there twice"
    if missing := [name for name in names if name not in found]:
        count = sum(field.startswith("pixel") for field in found)
        return f"has no column {missing[0]} ({count} pixel columns, not 784 for images of 28 x 28)"
    if extra := [field for field in found if field not in names]:
        return f"has an extra column {extra[0]!r:.40}"
    place = next(index for index, name in enumerate(names) if found[index] != name)
    return f"has its columns in another order: column {place + 1} is {found[place]}, not {names[place]}"
