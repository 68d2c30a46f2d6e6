"""Kaggle's competition "Digit Recognizer": its zip as downloaded, or train.csv and test.csv, plain or gzip.

The decoded arrays are kept beside the source in one .npz, so that the next run opens at once. The .npz carries the
SHA-256 of the source and of the arrays: a stale, damaged or changed one is ignored and replaced, and where nothing can
be written there is none.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import check_counts
from jaxnets.data.csv_text import AGAIN, clean_text
from jaxnets.data.npz import read_npz
from jaxnets.data.pixel_csv import decode_test, decode_train
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import inflate, open_zip, read_bytes, read_member

ARCHIVE = "digit-recognizer.zip"
TABLES = ("train.csv", "test.csv")
CACHE = "kaggle.cache.npz"
CACHE_FORMAT = b"jaxnets kaggle cache 1"  # raise the number when the same source decodes to something else
LIMIT = 150_000_000  # train.csv takes 77 MB
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_kaggle(path: Path | None, folder: Path) -> Arrays:
    """x_train (N, 28, 28, 1) uint8, y_train (N,) uint8 in [0, 10), x_test (T, 28, 28, 1) uint8.

    `path` is the zip or a folder with the zip or the two tables; without it, `folder` and `folder`/kaggle are searched.
    """
    files = find_files(path, folder)
    contents = [read_bytes(file, limit=LIMIT) for file in files]
    sums = [hashlib.sha256(content).digest() for content in contents]
    key = hashlib.sha256(b"".join([CACHE_FORMAT, *sums])).digest()
    cache = files[0].with_name(CACHE)
    arrays = read_cache(cache, key)
    if arrays is None:
        arrays = decode(files, contents)
        write_cache(cache, key, arrays)
    return arrays


def find_files(path: Path | None, folder: Path) -> list[Path]:
    """[the zip] or [train.csv, test.csv]."""
    if path is not None and not os.path.isdir(path):
        return [path]
    places = [folder, folder / "kaggle"] if path is None else [path]
    for place in places:
        if os.path.lexists(place / ARCHIVE):
            return [place / ARCHIVE]
        found = [find_table(place, name) for name in TABLES]
        files = [file for file in found if file is not None]
        if len(files) == len(TABLES):
            return files
        if files:
            missing = TABLES[found.index(None)]
            raise InputError(place, f"has {files[0].name} but no {missing}", f"put {missing} beside it")
    where = "https://www.kaggle.com/competitions/digit-recognizer/data"
    raise InputError(places[0], f"holds no {ARCHIVE}, nor its tables", f"download it from {where} and put it there")


def find_table(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if os.path.lexists(path)), None)


def decode(files: list[Path], contents: list[bytes]) -> Arrays:
    if len(files) == 1:
        places = [f"{files[0]}/{name}" for name in TABLES]
        texts = unzip(files[0], contents[0])
    else:
        places = [str(file) for file in files]
        pairs = zip(contents, places, strict=True)
        texts = [inflate(content, limit=LIMIT, place=place, fix=AGAIN) for content, place in pairs]
    x_train, y_train = decode_train(texts[0], places[0])
    check_counts(y_train, places[0])
    return x_train, y_train, decode_test(texts[1], places[1])


def unzip(path: Path, content: bytes) -> list[bytes]:
    if not content.startswith(b"PK"):
        clean_text(content, path)  # has the better words if this is an empty file or a web page
        raise InputError(path, "is not a zip archive", f"name {ARCHIVE}, or the folder with {' and '.join(TABLES)}")
    with open_zip(io.BytesIO(content), path) as archive:
        return [read_member(archive, name, limit=LIMIT, place=path) for name in TABLES]


def read_cache(path: Path, key: bytes) -> Arrays | None:
    """The arrays kept for this key; None if there are none, or others, or damaged ones."""
    try:
        kept = read_npz(path, ("key", "sha256", "x_train", "y_train", "x_test"))
        arrays = kept["x_train"], kept["y_train"], kept["x_test"]
        same = kept["key"].tobytes() == key and kept["sha256"].tobytes() == digest(arrays)
        return arrays if same and well_formed(arrays) else None
    except (InputError, KeyError):
        return None


def digest(arrays: Arrays) -> bytes:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()


def well_formed(arrays: Arrays) -> bool:
    """Whether they are what `read_kaggle` promises."""
    x_train, y_train, x_test = arrays
    images = x_train.shape[1:] == x_test.shape[1:] == (28, 28, 1) and y_train.shape == x_train.shape[:1]
    return images and all(array.dtype == np.uint8 for array in arrays) and bool((y_train < 10).all())


def write_cache(path: Path, key: bytes, arrays: Arrays) -> None:
    """Uncompressed: 55 MB for the real data, but compressing would take as long as reading the CSV again."""
    x_train, y_train, x_test = arrays
    with contextlib.suppress(InputError), atomic_file(path) as draft, draft.open("wb") as file:
        source, own = (np.frombuffer(sha256, np.uint8) for sha256 in (key, digest(arrays)))
        np.savez(file, key=source, sha256=own, x_train=x_train, y_train=y_train, x_test=x_test)
