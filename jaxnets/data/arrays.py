"""Other people's images, from one .npz file or four idx files, and the small digits that come with scikit-learn."""

from pathlib import Path

import numpy as np

from jaxnets.data.idx import decode_any_idx
from jaxnets.data.mnist import find
from jaxnets.data.npz import read_npz
from jaxnets.errors import InputError
from jaxnets.store.bounded import LIMIT, inflate, read_bytes

NEEDED = ("x_train", "y_train", "x_test")
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
CLASSES = 1000
"""At most: ImageNet has as many, and a number of its own for each image would be split and trained on for ever."""
LAYOUT = "store (N, H, W) or (N, H, W, C) with H and W at least 8 and C 1 or 3"


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""x_train (N, H, W, C) uint8, y_train (N,) int in [0, K), x_test (T, H, W, C) uint8, y_test (T,) or None. H and W are
at least 8, C is 1 or 3, and every class from 0 to the highest has at least two training rows."""


def read_arrays(path: Path) -> Arrays:
    """Those of an .npz file."""
    found = read_npz(path, (*NEEDED, "y_test"))
    if missing := [name for name in NEEDED if name not in found]:
        raise InputError(path, f"has no array {missing[0]}", f"store {', '.join(NEEDED)} and, if known, y_test")
    return checked(found, {name: f"{path}/{name}" for name in found})


def read_folder(folder: Path) -> Arrays:
    """Those of four idx files under MNIST's names, each raw or with .gz, as Fashion-MNIST and KMNIST have them; the
    last one may be missing."""
    found, places, room, fix = {}, {}, LIMIT, "put the original in its place"
    for name, file in IDX_FILES.items():
        path = find(folder, file)
        if path is not None:
            content = inflate(read_bytes(path, limit=room), limit=room, place=path, fix=fix)
            found[name] = decode_any_idx(content, 3 if name.startswith("x") else 1, place=path, fix=fix)
            places[name] = str(path)
            room -= found[name].nbytes
        elif name in NEEDED:
            raise InputError(folder, f"has no {file}, raw or .gz", "put the idx files there, under MNIST's names")
    return checked(found, places)


def checked(found: dict[str, np.ndarray], places: dict[str, str]) -> Arrays:
    """The arrays by name, y_test perhaps missing -> as this program uses them; InputError names the place of the one
    that is wrong."""
    x_train, x_test = (as_images(found[name], places[name]) for name in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        problem = f"images are {x_test.shape[1:]}, those to train on {x_train.shape[1:]}"
        raise InputError(places["x_test"], problem, "bring both to one size")
    y_train = as_labels(found["y_train"], len(x_train), places["y_train"])
    check_classes(y_train, places["y_train"])
    if "y_test" not in found:
        return x_train, y_train, x_test, None
    y_test = as_labels(found["y_test"], len(x_test), places["y_test"])
    if y_test.max() > y_train.max():
        row = int(np.argmax(y_test > y_train.max()))
        problem = f"row {row} is {y_test[row]}, a class that no training row has"
        raise InputError(places["y_test"], problem, "remove such rows")
    return x_train, y_train, x_test, y_test


def as_images(array: np.ndarray, place: str) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) integers in [0, 256) -> (N, H, W, C) uint8."""
    if array.dtype.kind not in "iu":
        fix = "store uint8 in 0..255; values from 0 to 1 are multiplied by 255 first"
        raise InputError(place, f"is {array.dtype}, not whole numbers", fix)
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3) or min(images.shape[1:3]) < 8:
        raise InputError(place, f"has shape {array.shape}", LAYOUT)
    if len(images) == 0:
        raise InputError(place, "has no images", "store at least one")
    if images.min() < 0 or images.max() > 255:
        wrong = (images.min(axis=(1, 2, 3)) < 0) | (images.max(axis=(1, 2, 3)) > 255)
        row = int(np.argmax(wrong))
        problem = f"row {row} has values from {images[row].min()} to {images[row].max()}, not in 0..255"
        raise InputError(place, problem, "bring them to 0..255")
    return np.ascontiguousarray(images, np.uint8)


def as_labels(array: np.ndarray, rows: int, place: str) -> np.ndarray:
    """(N,) non-negative integers, as many as there are images."""
    if array.dtype.kind not in "iu":
        raise InputError(place, f"is {array.dtype}, not whole numbers", "store the classes as integers from 0 up")
    if array.shape != (rows,):
        raise InputError(place, f"has shape {array.shape} for {rows} images", "store one label for each image")
    if array.min() < 0:
        row = int(np.argmax(array < 0))
        raise InputError(place, f"row {row} is {array[row]}, a negative class", "count the classes from 0 up")
    return array


def check_classes(labels: np.ndarray, place: str) -> None:
    """Two to a thousand classes, numbered without a gap, each with two rows: one to train on, one to validate on."""
    classes = np.unique(labels)
    if len(classes) > CLASSES:
        raise InputError(place, f"has {len(classes):,} classes", f"store at most {CLASSES:,}; are these row numbers?")
    gaps = np.flatnonzero(classes != np.arange(len(classes)))
    if gaps.size:
        raise InputError(
            place, f"has no row of class {gaps[0]} but has class {classes[-1]}", "number classes from 0 up"
        )
    if len(classes) < 2:
        raise InputError(place, "has a single class", "store at least two classes")
    check_counts(labels, place)


def check_counts(labels: np.ndarray, place: str) -> None:
    """Raises InputError if a class has a single row: it could not be split."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        problem = f"has a single row of class {classes[np.argmin(counts)]}"
        raise InputError(place, problem, "store at least two rows per class")


def read_bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: images (1797, 8, 8, 1) uint8, labels (1797,) int in [0, 10)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return images[..., None], bunch.target
