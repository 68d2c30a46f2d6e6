"""Kaggle's competition "Digit Recognizer": its zip as downloaded, or train.csv and test.csv, raw or gzip.

The decoded arrays are cached next to the source in an .npz file, so that later runs start at once. It contains the
SHA-256 of the source and of the arrays: an outdated, damaged or modified cache is replaced. If it cannot be written,
there is no cache.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import check_counts
from jaxnets.data.csv_text import REFETCH_HINT, clean_text
from jaxnets.data.mnist import find_raw_or_gzip
from jaxnets.data.pixel_csv import decode_test, decode_train
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import decompress_gzip, open_zip, read_bytes, read_member
from jaxnets.store.npz import read_npz

ARCHIVE = "digit-recognizer.zip"
TABLES = ("train.csv", "test.csv")
CACHE = "kaggle.cache.npz"
CACHE_FORMAT = b"jaxnets kaggle cache 1"
"""Increase the number when the same source is decoded to other arrays."""
MAX_FILE_BYTES = 150_000_000
"""train.csv has 77 MB."""
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_kaggle(path: Path | None, folder: Path) -> Arrays:
    """Return x_train (N, 28, 28, 1) uint8, y_train (N,) uint8 in [0, 10) and x_test (T, 28, 28, 1) uint8.

    Args:
        path: the zip, or a folder with the zip or the two tables; if None, `folder` and `folder`/kaggle are searched.
        folder: the data folder.

    Raises:
        InputError: the files are missing, damaged or have other columns.
    """
    files = find_files(path, folder)
    contents = [read_bytes(file, limit=MAX_FILE_BYTES) for file in files]
    checksums = [hashlib.sha256(content).digest() for content in contents]
    key = hashlib.sha256(b"".join([CACHE_FORMAT, *checksums])).digest()
    cache = files[0].with_name(CACHE)
    arrays = read_cache(cache, key)
    if arrays is None:
        arrays = decode(files, contents)
        write_cache(cache, key, arrays)
    return arrays


def find_files(path: Path | None, folder: Path) -> list[Path]:
    """Return [the zip] or [train.csv, test.csv]. Raises InputError if there is neither."""
    if path is not None and not os.path.isdir(path):
        return [path]
    folders = [folder, folder / "kaggle"] if path is None else [path]
    for candidate in folders:
        if os.path.lexists(candidate / ARCHIVE):
            return [candidate / ARCHIVE]
        found = {name: find_raw_or_gzip(candidate, name) for name in TABLES}
        files = [file for file in found.values() if file is not None]
        if len(files) == len(TABLES):
            return files
        if files:
            missing = next(name for name, file in found.items() if file is None)
            raise InputError(candidate, f"has {files[0].name} but no {missing}", f"put {missing} next to it")
    url = "https://www.kaggle.com/competitions/digit-recognizer/data"
    raise InputError(folders[0], f"has neither {ARCHIVE} nor its tables", f"download it from {url} and put it there")


def decode(files: list[Path], contents: list[bytes]) -> Arrays:
    """Return the arrays of the files that `find_files` has found."""
    if len(files) == 1:
        locations = [f"{files[0]}/{name}" for name in TABLES]
        texts = unzip(files[0], contents[0])
    else:
        locations = [str(file) for file in files]
        texts = [
            decompress_gzip(content, limit=MAX_FILE_BYTES, location=location, fix=REFETCH_HINT)
            for content, location in zip(contents, locations, strict=True)
        ]
    x_train, y_train = decode_train(texts[0], locations[0])
    check_counts(y_train, locations[0])
    return x_train, y_train, decode_test(texts[1], locations[1])


def unzip(path: Path, content: bytes) -> list[bytes]:
    """Return the contents of train.csv and test.csv. Raises InputError if the archive is damaged or lacks one."""
    if not content.startswith(b"PK"):
        clean_text(content, path)  # has a better message for an empty file and a web page
        raise InputError(path, "is not a zip archive", f"name {ARCHIVE}, or the folder with {' and '.join(TABLES)}")
    with open_zip(io.BytesIO(content), path) as archive:
        return [read_member(archive, name, limit=MAX_FILE_BYTES, location=path) for name in TABLES]


def read_cache(path: Path, key: bytes) -> Arrays | None:
    """Return the arrays cached for this key; None if there are none, or if they are damaged."""
    try:
        cached = read_npz(path, ("key", "sha256", "x_train", "y_train", "x_test"))
        arrays = cached["x_train"], cached["y_train"], cached["x_test"]
        same = cached["key"].tobytes() == key and cached["sha256"].tobytes() == hash_arrays(arrays)
        return arrays if same else None
    except (InputError, KeyError):
        return None


def hash_arrays(arrays: Arrays) -> bytes:
    """Return the SHA-256 of dtypes, shapes and values."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()


def write_cache(path: Path, key: bytes, arrays: Arrays) -> None:
    """Write the cache uncompressed: 55 MB, but compressing would take as long as reading the CSV again."""
    x_train, y_train, x_test = arrays
    source, checksum = np.frombuffer(key, np.uint8), np.frombuffer(hash_arrays(arrays), np.uint8)
    with contextlib.suppress(InputError), atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, key=source, sha256=checksum, x_train=x_train, y_train=y_train, x_test=x_test)
