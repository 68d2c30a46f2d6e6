"""Generated files with one fault each, by the name of the fault, and unusual files that are valid."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxnets.data.idx import encode_idx, idx_header

Contents = dict[str, Callable[[], bytes]]
"""Name of the fault -> function that returns the content; some contents are large."""

RNG = np.random.default_rng(0)
ROWS = 30
LABELS = np.arange(ROWS) % 10
IMAGES = RNG.integers(0, 256, (ROWS, 784)) * (RNG.random((ROWS, 784)) < 0.3)
PIXELS = [f"pixel{index}" for index in range(784)]
LARGE, ENDLESS = 400_000_000, 140_000_000


def table(header: list[str], rows: np.ndarray) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in (header, *rows.tolist())).encode()


TRAIN = table(["label", *PIXELS], np.c_[LABELS, IMAGES])
TEST = table(PIXELS, IMAGES[:5])
HEADER, FIRST = TRAIN.split(b"\n")[:2]
BODY = TRAIN.removeprefix(HEADER + b"\n")


def field(value: str, *, row: int = 8, column: int = 6) -> bytes:
    """Return TRAIN with one field replaced."""
    lines = [line.split(b",") for line in TRAIN.split(b"\n")]
    lines[row][column] = value.encode()
    return b"\n".join(b",".join(line) for line in lines)


def headed(names: list[str]) -> bytes:
    return ",".join(names).encode() + b"\n" + BODY


def pieces(start: bytes, piece: bytes, size: int) -> Iterator[bytes]:
    """Yield `start`, then about `size` bytes of repeated `piece`.

    The content is never in memory as a whole, as a child's peak memory includes that of the process that forks it.
    """
    yield start
    block = piece * (2**20 // len(piece))
    yield from (block for _ in range(size // len(block)))


def gzipped(start: bytes, piece: bytes, size: int) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.writelines(pieces(start, piece, size))
    return file.getvalue()


def zip_of(name: str, start: bytes, piece: bytes, size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(name, "w") as packed:
            packed.writelines(pieces(start, piece, size))
        archive.writestr("test.csv", TEST)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


FIELDS = {
    "a word": "abc",
    "a blank": "",
    "a space": " ",
    "NaN": "NaN",
    "256": "256",
    "a negative pixel": "-1",
    "a scaled pixel": "0.5",
    "20 digits": "9" * 20,
    "an exponent": "1e2",
    "a plus sign": "+5",
    "a quoted number": '"7"',
    "an Arabic digit": "٣",
    "hexadecimal": "0x1f",
}
CSV: Contents = {
    **{name: lambda value=value: field(value) for name, value in FIELDS.items()},  # type: ignore[misc]
    **{f"label {value!r}": lambda value=value: field(value, column=0) for value in ("10", "-1", "3.7", "")},  # type: ignore[misc]
    "empty": lambda: b"",
    "blank lines only": lambda: b"\r\n\n",
    "a header only": lambda: HEADER + b"\n",
    "no header": lambda: BODY,
    "truncated in a row": lambda: TRAIN[:-1000],
    "truncated in its header": lambda: HEADER[:3000],
    "a short row": lambda: TRAIN.replace(FIRST, FIRST.rpartition(b",")[0]),
    "a long row": lambda: TRAIN.replace(FIRST, FIRST + b",0"),
    "an empty line": lambda: TRAIN.replace(FIRST, FIRST + b"\n"),
    "label column last": lambda: headed([*PIXELS, "label"]),
    "pixels in another order": lambda: headed(["label", *reversed(PIXELS)]),
    "a duplicate column": lambda: headed(["label", *PIXELS[:-1], "pixel5"]),
    "an extra column": lambda: headed(["ImageId", "label", *PIXELS]),
    "images of 14 x 14": lambda: headed(["label", *PIXELS[:196]]),
    "a class with one example": lambda: b"".join(TRAIN.splitlines(keepends=True)[:12]),
    "two files joined": lambda: TRAIN + TRAIN,
    "semicolons": lambda: TRAIN.replace(b",", b";"),
    "tabs": lambda: TRAIN.replace(b",", b"\t"),
    "CR line ends": lambda: TRAIN.replace(b"\n", b"\r"),
    "UTF-16": lambda: TRAIN.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda: TRAIN.decode().encode("utf-16-le"),
    "Latin-1": lambda: headed(["läbel", *PIXELS]).decode().encode("latin-1"),
    "NUL bytes": lambda: TRAIN[:9000] + bytes(100) + TRAIN[9000:],
    "a web page": lambda: b"\n<!DOCTYPE html><title>Kaggle</title>",
    "the test table": lambda: TEST,
    "a zip named csv": lambda: zipped(train=TRAIN),
    "truncated gzip": lambda: gzip.compress(TRAIN)[:-20],
    "gzip with another checksum": lambda: gzip.compress(TRAIN)[:-8] + bytes(8),
    "gzip bomb of zeros": lambda: gzipped(b"", b"\0", LARGE),
    "gzip bomb of one line": lambda: gzipped(b"", b"0,", ENDLESS),
    "gzip bomb of one row": lambda: gzipped(HEADER + b"\n", b"0,", ENDLESS),
    "gzip bomb of empty lines": lambda: gzipped(HEADER, b"\n", ENDLESS),
}
HARMLESS_CSV: Contents = {
    "CRLF": lambda: TRAIN.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda: b"\xef\xbb\xbf" + TRAIN,
    "no final newline": lambda: TRAIN.removesuffix(b"\n"),
    "all three": lambda: (b"\xef\xbb\xbf" + TRAIN.replace(b"\n", b"\r\n")).removesuffix(b"\r\n"),
    "gzip named csv": lambda: gzip.compress(TRAIN),
}
ARCHIVES: Contents = {
    "truncated zip": lambda: zipped(**{"train.csv": TRAIN, "test.csv": TEST})[:-30],
    "zip without test.csv": lambda: zipped(**{"train.csv": TRAIN}),
    "zip with its tables swapped": lambda: zipped(**{"train.csv": TEST, "test.csv": TRAIN}),
    "zip with one damaged byte": lambda: changed(zipped(**{"train.csv": TRAIN, "test.csv": TEST}), 5000),
    "a table named zip": lambda: TRAIN,
    "a web page named zip": lambda: b"<html>",
    "zip of a bomb": lambda: zip_of("train.csv", b"", b"\0", LARGE),
}


def changed(content: bytes, index: int) -> bytes:
    return content[:index] + bytes([content[index] ^ 0x10]) + content[index + 1 :]


SIZES = (60_000, 28, 28)


def idx(*sizes: int, content: bytes = b"", rest: int = 0) -> bytes:
    return idx_header(sizes) + content + bytes(rest)


IDX: Contents = {
    "empty": lambda: b"",
    "a wrong magic number": lambda: b"\0\0\x08\x07" + idx(*SIZES)[4:],
    "labels instead of images": lambda: encode_idx(np.zeros(60_000, np.uint8)),
    "truncated in its header": lambda: idx(*SIZES)[:9],
    "truncated in its data": lambda: idx(*SIZES, rest=1000),
    "one extra byte": lambda: idx(*SIZES, rest=60_000 * 784 + 1),
    "no images": lambda: idx(0, 28, 28),
    "2**32 - 1 images": lambda: idx(2**32 - 1, 28, 28, rest=784),
    "images of 14 x 56": lambda: idx(60_000, 14, 56, rest=784),
    "65536**3 values": lambda: idx(65536, 65536, 65536, rest=784),
    "little-endian": lambda: np.array([2051, *SIZES], "<u4").tobytes() + bytes(784),
    "floating point": lambda: b"\0\0\x0d\x03" + idx(*SIZES)[4:] + bytes(784),
    "other pixels": lambda: idx(*SIZES, rest=60_000 * 784),
    "a web page": lambda: b"<html>sign in</html>",
    "truncated gzip": lambda: gzip.compress(idx(*SIZES, rest=784))[:-9],
    "gzip with another checksum": lambda: gzip.compress(idx(*SIZES, rest=784))[:-8] + bytes(8),
    "gzip and garbage": lambda: gzip.compress(idx(*SIZES, rest=784)) + b"garbage",
    "a gzip bomb": lambda: gzipped(b"", b"\0", LARGE),
    "too large": lambda: bytes(60_000_000),
}

DIGITS: dict[str, np.ndarray] = {
    "x_train": IMAGES[:20, :64].reshape(20, 8, 8).astype(np.uint8),
    "y_train": np.arange(20) % 2,
    "x_test": IMAGES[20:, :64].reshape(10, 8, 8).astype(np.uint8),
    "y_test": np.arange(10) % 2,
}


def npz(save: Callable[..., None] = np.savez, **arrays: np.ndarray) -> bytes:
    """Return an archive of DIGITS with some arrays replaced."""
    file = io.BytesIO()
    save(file, **(DIGITS | arrays))
    return file.getvalue()


def plain_npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def member(shape: tuple[int, ...], content: bytes = b"", *, descr: str = "|u1") -> bytes:
    """Return an array whose header claims this shape, whatever its content."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def nested_header() -> bytes:
    """Return an array whose shape is nested too deeply for Python's parser."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'-' * 9000}1,), }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def weights_bomb(arrays: dict[str, np.ndarray]) -> bytes:
    """Return weights whose first array is a decompression bomb."""
    return zip_of(f"{next(iter(arrays))}.npy", member((LARGE // 2**20 << 20,)), b"\0", LARGE)


def replaced(name: str, index: tuple[int, ...], value: int) -> bytes:
    array = DIGITS[name].astype(np.int64)
    array[index] = value
    return with_array(name, array)


def with_array(name: str, array: np.ndarray) -> bytes:
    return npz(**{name: array})


NPZ: Contents = {
    "empty": lambda: b"",
    "not a zip": lambda: b"text",
    "a bare pickle": lambda: pickle.dumps(DIGITS),
    "truncated": lambda: npz()[:-40],
    "one damaged byte": lambda: changed(npz(), 400),
    "no x_test": lambda: zipped(**{"x_train.npy": member((2,), b"ab")}),
    "floats in [0, 1]": lambda: with_array("x_train", DIGITS["x_train"] / 255),
    "NaN": lambda: with_array("x_test", np.full((10, 8, 8), np.nan)),
    "flat images": lambda: with_array("x_train", DIGITS["x_train"].reshape(20, 64)),
    "images too small": lambda: with_array("x_train", DIGITS["x_train"][:, :7]),
    "two channels": lambda: with_array("x_train", np.zeros((20, 8, 8, 2), np.uint8)),
    "test images of another size": lambda: with_array("x_test", np.zeros((10, 9, 9), np.uint8)),
    "no test images": lambda: with_array("x_test", DIGITS["x_test"][:0]),
    "pixel 256": lambda: replaced("x_train", (5, 0, 0), 256),
    "pixel -1": lambda: replaced("x_test", (2, 3, 4), -1),
    "too few labels": lambda: with_array("y_train", DIGITS["y_train"][:7]),
    "two-dimensional labels": lambda: with_array("y_train", DIGITS["y_train"][:, None]),
    "float labels": lambda: with_array("y_train", DIGITS["y_train"] + 0.0),
    "text labels": lambda: with_array("y_train", DIGITS["y_train"].astype(str)),
    "a negative label": lambda: replaced("y_train", (3,), -1),
    "a missing class": lambda: replaced("y_train", (3,), 10**15),
    "a class with one example": lambda: replaced("y_train", (3,), 2),
    "a single class": lambda: with_array("y_train", np.zeros(20, int)),
    "a test label without training images": lambda: replaced("y_test", (1,), 3),
    "Python objects": lambda: with_array("x_train", np.array([None] * 20)),
    "a header that claims 8 TB": lambda: zipped(**{"x_train.npy": member((2**43,), b"ab")}),
    "a header that claims less": lambda: zipped(**{"x_train.npy": member((1,), bytes(1000))}),
    "a header with a negative shape": lambda: zipped(**{"x_train.npy": member((-1, -2), b"ab")}),
    "a malformed header": lambda: zipped(**{"x_train.npy": member((2,), b"ab").replace(b"(2,)", b"(2,(")}),
    "a deeply nested header": lambda: zipped(**{"x_train.npy": nested_header()}),
    "a shape that overflows": lambda: zipped(**{"x_train.npy": member((0, 2**70))}),
    "no header": lambda: zipped(**{"x_train.npy": b"text"}),
    "a member with a path": lambda: zipped(**{"../x_train.npy": member((2,), b"ab")}),
    "a header bomb": lambda: zip_of("x_train.npy", b"\x93NUMPY\2\0" + struct.pack("<I", LARGE), b" ", LARGE),
    "a bomb": lambda: zip_of("x_train.npy", member((LARGE // 2**20 << 20,)), b"\0", LARGE),
}
HARMLESS_NPZ: Contents = {
    "Fortran order": lambda: with_array("x_train", np.asfortranarray(DIGITS["x_train"])),
    "compressed": lambda: npz(np.savez_compressed),
    "big-endian integers": lambda: with_array("x_train", DIGITS["x_train"].astype(">i4")),
    "an extra array": lambda: with_array("notes", np.zeros(3)),
    "a channel axis": lambda: with_array("x_test", DIGITS["x_test"][..., None]),
}


def config(good: dict[str, Any], **training: Any) -> bytes:
    """Return a run's config.json with values of its training replaced."""
    value = json.loads(json.dumps(good))
    value["recipe"]["training"] |= training
    return json.dumps(value).encode()


def top(good: dict[str, Any], **values: Any) -> bytes:
    return json.dumps(good | values).encode()


def recipe(good: dict[str, Any], **values: Any) -> bytes:
    return json.dumps(good | {"recipe": good["recipe"] | values}).encode()


CONFIG: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "empty": lambda good: b"",
    "a list": lambda good: b"[]",
    "truncated": lambda good: top(good)[:-9],
    "Latin-1": lambda good: top(good, data="ä").replace(b"\\u00e4", b"\xe4"),
    "YAML": lambda good: b"recipe: !!python/object/apply:os.system [ls]\n",
    "an alias bomb": lambda good: b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "deeply nested brackets": lambda good: b"[" * 100_000,
    "a duplicate key": lambda good: top(good)[:-1] + b', "seed": 1}',
    "an unknown key": lambda good: top(good, colour="red"),
    "an unknown key of 10,000 characters": lambda good: top(good, **{"x" * 10_000: 1}),
    "an unknown key of the recipe": lambda good: recipe(good, colour="red"),
    "an unknown key of the training": lambda good: config(good, colour="red"),
    "a missing key": lambda good: json.dumps({"recipe": good["recipe"]}).encode(),
    "a negative learning rate": lambda good: config(good, learning_rate=-1.0),
    "a learning rate of NaN": lambda good: config(good, learning_rate=float("nan")),
    "a learning rate in words": lambda good: config(good, learning_rate="fast"),
    "a learning rate of 100,000 digits": lambda good: config(good).replace(b"0.005", b"9" * 100_000),
    "batch 0": lambda good: config(good, batch_size=0),
    "batch true": lambda good: config(good, batch_size=True),
    "batch 1e30": lambda good: config(good, batch_size=10**30),
    "epochs 1e30": lambda good: config(good, epochs=10**30),
    "an infinite norm": lambda good: config(good, clip_norm=float("inf")),
    "an unknown family": lambda good: recipe(good, family="vgg"),
    "a family that is a list": lambda good: recipe(good, family=["resnet"]),
    "an unknown size": lambda good: recipe(good, sizes={"colour": 3}),
    "a negative size": lambda good: recipe(good, sizes={"width": -8}),
    "a size of 0": lambda good: recipe(good, sizes={"width": 0}),
    "a size in words": lambda good: recipe(good, sizes={"width": "8"}),
    "a depth of a billion": lambda good: recipe(good, sizes={"depth": 10**9}),
    "sizes in a list": lambda good: recipe(good, sizes=[1, 2]),
    "a negative seed": lambda good: top(good, seed=-1),
    "a seed in words": lambda good: top(good, seed="0"),
    "an unknown precision": lambda good: top(good, precision="float8"),
    "image_shape with one side": lambda good: top(good, image_shape=[8]),
    "text as image_shape": lambda good: top(good, image_shape="8x8"),
    "no classes": lambda good: top(good, num_classes=0),
    "a trillion classes": lambda good: top(good, num_classes=10**12),
}
