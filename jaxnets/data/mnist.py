"""MNIST: the four original idx files, fetched when they are missing, never used unless their sums are right."""

import os
from pathlib import Path

import numpy as np

from jaxnets.data.idx import IdxFile, decode_idx
from jaxnets.errors import InputError
from jaxnets.store.bounded import GZIP_ROOM, inflate, read_bytes

FILES = {
    "train-images-idx3-ubyte": IdxFile(
        (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": IdxFile((60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": IdxFile(
        (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": IdxFile((10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}


def read_mnist(path: Path | None, folder: Path) -> list[np.ndarray]:
    """x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28), y_test (10000,), all uint8.

    Files lie in `path`, or in `folder`/mnist where the missing ones are fetched; each raw or with .gz at its name.
    """
    place = folder / "mnist" if path is None else path
    missing = {name: want for name, want in FILES.items() if find(place, name) is None}
    if path is not None and missing:
        problem = f"is not a folder with the four idx files: {', '.join(missing)} missing"
        raise InputError(path, problem, "put them there (see data/README.md), or name no path and have them fetched")
    if missing:
        from jaxnets.data.fetch import fetch  # late: it brings in the network

        fetch(missing, place)
    remedy = "delete the file and have it fetched again" if path is None else "put the original in its place"
    fix = f"{remedy}, or bring other data as an .npz file"
    return [read_file(place, name, fix) for name in FILES]


def read_file(place: Path, name: str, fix: str) -> np.ndarray:
    path, want = find(place, name) or place / name, FILES[name]
    content = read_bytes(path, limit=want.num_bytes + GZIP_ROOM)
    content = inflate(content, limit=want.num_bytes, place=path, fix=fix)
    return decode_idx(content, want, place=path, fix=fix)


def find(place: Path, name: str) -> Path | None:
    """The raw or the compressed file; a broken link counts as found, so that it is reported and not replaced."""
    candidates = (place / name, place / f"{name}.gz")
    return next((path for path in candidates if os.path.lexists(path)), None)
