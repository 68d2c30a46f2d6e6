"""MNIST: the four original idx files, downloaded if they are missing, and always checked against their SHA-256."""

import os
from pathlib import Path

import numpy as np

from jaxnets.data.idx import IdxFile, decode_idx
from jaxnets.errors import InputError
from jaxnets.store.bounded import GZIP_OVERHEAD_BYTES, decompress_gzip, read_bytes

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
    """Return x_train (60000, 28, 28), y_train (60000,), x_test (10000, 28, 28) and y_test (10000,), all uint8.

    Args:
        path: folder of the four files, each raw or gzip; if None, `folder`/mnist, where missing files are downloaded.
        folder: the data folder.

    Raises:
        InputError: a file is missing, cannot be downloaded, or differs from the original.
    """
    home = folder / "mnist" if path is None else path
    missing = {name: expected for name, expected in FILES.items() if find_raw_or_gzip(home, name) is None}
    if path is not None and missing:
        problem = f"is not a folder with the four idx files: {', '.join(missing)} missing"
        raise InputError(path, problem, "put them there (see data/README.md), or give no path to download them")
    if missing:
        from jaxnets.data.fetch import fetch  # late: it imports the network libraries

        fetch(missing, home)
    remedy = "delete the file to download it again" if path is None else "replace it by the original"
    return [read_file(home, name, f"{remedy}, or use other data in an .npz file") for name in FILES]


def read_file(folder: Path, name: str, fix: str) -> np.ndarray:
    """Return the array of one of the FILES. Raises InputError, with `fix`, if it differs from the original."""
    path, expected = find_raw_or_gzip(folder, name) or folder / name, FILES[name]
    content = read_bytes(path, limit=expected.num_bytes + GZIP_OVERHEAD_BYTES)
    content = decompress_gzip(content, limit=expected.num_bytes, location=path, fix=fix)
    return decode_idx(content, expected, location=path, fix=fix)


def find_raw_or_gzip(folder: Path, name: str) -> Path | None:
    """Return the path of the file `name` or `name`.gz in `folder`, None if there is neither.

    A broken link counts as found, so that it is reported and not replaced.
    """
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if os.path.lexists(path)), None)
