"""The user's own images, from an .npz archive or four idx files, and the small digits that scikit-learn includes."""

from pathlib import Path

import numpy as np

from jaxnets.data.idx import decode_any_idx
from jaxnets.data.mnist import find_raw_or_gzip
from jaxnets.errors import InputError
from jaxnets.store.bounded import MAX_ARRAY_BYTES, decompress_gzip, read_bytes
from jaxnets.store.npz import read_npz

REQUIRED = ("x_train", "y_train", "x_test")
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
MAX_CLASSES = 1000
"""As many as ImageNet has. More are probably row numbers, which would be split and trained on for hours."""
LAYOUT_HINT = "store (N, H, W) or (N, H, W, C) with H and W at least 8 and C 1 or 3"


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""x_train (N, H, W, C) uint8, y_train (N,) int in [0, K), x_test (T, H, W, C) uint8, y_test (T,) int or None. H and W
are at least 8, C is 1 or 3, and every class from 0 to K - 1 has at least two training images."""


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of an .npz archive. Raises InputError if it is damaged or unusable."""
    found = read_npz(path, (*REQUIRED, "y_test"))
    if missing := [name for name in REQUIRED if name not in found]:
        raise InputError(path, f"has no array {missing[0]}", f"store {', '.join(REQUIRED)} and, if known, y_test")
    return check_arrays(found, {name: f"{path}/{name}" for name in found})


def read_folder(folder: Path) -> Arrays:
    """Return the arrays of four idx files with MNIST's names, each raw or gzip; t10k-labels may be missing.

    Raises InputError if they are damaged or unusable.
    """
    found, locations, limit = {}, {}, MAX_ARRAY_BYTES
    fix = "replace it by the original"
    for name, file in IDX_FILES.items():
        path = find_raw_or_gzip(folder, file)
        if path is not None:
            content = decompress_gzip(read_bytes(path, limit=limit), limit=limit, location=path, fix=fix)
            found[name] = decode_any_idx(content, 3 if name.startswith("x") else 1, location=path, fix=fix)
            locations[name] = str(path)
            limit -= found[name].nbytes
        elif name in REQUIRED:
            raise InputError(folder, f"has no {file}, raw or .gz", "put the idx files there, with MNIST's names")
    return check_arrays(found, locations)


def check_arrays(found: dict[str, np.ndarray], locations: dict[str, str]) -> Arrays:
    """Return validated arrays. Raises InputError, with the location of the array at fault, if one is unusable."""
    x_train = as_images(found["x_train"], locations["x_train"])
    x_test = as_images(found["x_test"], locations["x_test"])
    if x_train.shape[1:] != x_test.shape[1:]:
        problem = f"has images of shape {x_test.shape[1:]}, the training images are {x_train.shape[1:]}"
        raise InputError(locations["x_test"], problem, "bring both to one size")
    y_train = as_labels(found["y_train"], len(x_train), locations["y_train"])
    check_classes(y_train, locations["y_train"])
    if "y_test" not in found:
        return x_train, y_train, x_test, None
    y_test = as_labels(found["y_test"], len(x_test), locations["y_test"])
    if y_test.max() > y_train.max():
        row = int(np.argmax(y_test > y_train.max()))
        problem = f"row {row} is {y_test[row]}, a class without training images"
        raise InputError(locations["y_test"], problem, "remove such rows")
    return x_train, y_train, x_test, y_test


def as_images(array: np.ndarray, location: str) -> np.ndarray:
    """Return (N, H, W) or (N, H, W, C) integers in [0, 256) as (N, H, W, C) uint8. Raises InputError otherwise."""
    if array.dtype.kind not in "iu":
        fix = "store uint8 in 0..255, after multiplying values in [0, 1] by 255"
        raise InputError(location, f"has dtype {array.dtype}, expected integers", fix)
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3) or min(images.shape[1:3]) < 8:
        raise InputError(location, f"has shape {array.shape}", LAYOUT_HINT)
    if len(images) == 0:
        raise InputError(location, "has no images", "store at least one")
    if images.min() < 0 or images.max() > 255:
        wrong = (images.min(axis=(1, 2, 3)) < 0) | (images.max(axis=(1, 2, 3)) > 255)
        row = int(np.argmax(wrong))
        problem = f"row {row} has values from {images[row].min()} to {images[row].max()}, not in 0..255"
        raise InputError(location, problem, "scale them to 0..255")
    return np.ascontiguousarray(images, np.uint8)


def as_labels(array: np.ndarray, num_images: int, location: str) -> np.ndarray:
    """Return (N,) non-negative integers, one per image. Raises InputError otherwise."""
    if array.dtype.kind not in "iu":
        raise InputError(location, f"has dtype {array.dtype}, expected integers", "number the classes from 0")
    if array.shape != (num_images,):
        raise InputError(location, f"has shape {array.shape} for {num_images} images", "store one label per image")
    if array.min() < 0:
        row = int(np.argmax(array < 0))
        raise InputError(location, f"row {row} is {array[row]}, a negative class", "number the classes from 0")
    return array


def check_classes(labels: np.ndarray, location: str) -> None:
    """Raise InputError unless there are 2 to 1000 classes, numbered without gaps, with at least two examples each."""
    classes = np.unique(labels)
    if len(classes) > MAX_CLASSES:
        fix = f"store at most {MAX_CLASSES:,}; are these row numbers?"
        raise InputError(location, f"has {len(classes):,} classes", fix)
    gaps = np.flatnonzero(classes != np.arange(len(classes)))
    if gaps.size:
        problem = f"has no example of class {gaps[0]} but has class {classes[-1]}"
        raise InputError(location, problem, "number the classes from 0")
    if len(classes) < 2:
        raise InputError(location, "has a single class", "store at least two classes")
    check_counts(labels, location)


def check_counts(labels: np.ndarray, location: str) -> None:
    """Raise InputError if a class has a single example: it could not be split."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        problem = f"has a single example of class {classes[np.argmin(counts)]}"
        raise InputError(location, problem, "store at least two examples per class")


def read_bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits: images (1797, 8, 8, 1) uint8, labels (1797,) int in [0, 10)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return images[..., None], bunch.target
