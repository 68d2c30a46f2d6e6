"""Data sets: MNIST, Kaggle's Digit Recognizer, scikit-learn's digits, .npz archives and folders of idx files.

>>> digits = load("digits")
>>> digits.x_train.shape, digits.x_test.shape, digits.num_classes
((1438, 8, 8, 1), (359, 8, 8, 1), 10)
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.arrays import read_arrays, read_bundled_digits, read_folder
from jaxnets.data.kaggle import read_kaggle
from jaxnets.data.mnist import read_mnist
from jaxnets.data.submission import write_submission
from jaxnets.errors import InputError

__all__ = [
    "Digits",
    "digest",
    "load",
    "stratified_folds",
    "stratified_split",
    "write_submission",
]


class Digits(NamedTuple):
    """Images and their classes: N training images, T test images, K classes. The arrays are read-only."""

    name: str
    """mnist, kaggle or digits; for other data the name of the folder, or of the .npz file without its ending."""
    x_train: np.ndarray
    """(N, H, W, C) uint8."""
    y_train: np.ndarray
    """(N,) int32 in [0, K)."""
    x_test: np.ndarray
    """(T, H, W, C) uint8."""
    y_test: np.ndarray | None
    """(T,) int32, or None if the test images have no labels."""
    num_classes: int


def load(name: str, path: Path | None = None, *, folder: Path = Path("data")) -> Digits:
    """Return a data set, complete and validated.

    Args:
        name: one of
            mnist: the four idx files in the folder `path`, or in `folder`/mnist, where missing files are downloaded;
            kaggle: the competition's zip, or the folder with its tables, at `path` or in `folder`; no test labels;
            digits: scikit-learn's 1,797 digits of 8 x 8 pixels, a fixed fifth of which is the test set;
            a path ending in .npz: arrays x_train, y_train, x_test and optionally y_test;
            a folder: four idx files with MNIST's names, as of Fashion-MNIST and KMNIST.
        path: location of mnist or kaggle.
        folder: where mnist and kaggle are searched without `path`.

    Raises:
        InputError: the data are missing, damaged or unusable.
    """
    if path is not None and name not in ("mnist", "kaggle"):
        raise InputError(f"data {name}", "takes no path", "leave out the path, or name mnist or kaggle")
    if name == "mnist":
        x_train, y_train, x_test, y_test = read_mnist(path, folder)
        return _read_only(Digits(name, x_train[..., None], y_train, x_test[..., None], y_test, 10))
    if name == "kaggle":
        return _read_only(Digits(name, *read_kaggle(path, folder), None, 10))
    if name == "digits":
        images, labels = read_bundled_digits()
        train, test = stratified_split(labels, fraction=0.2, seed=0)
        return _read_only(Digits(name, images[train], labels[train], images[test], labels[test], 10))
    return _load_own(name)


def _load_own(name: str) -> Digits:
    path = Path(name)
    if not name.endswith(".npz") and not path.is_dir():
        problem = "is a file, but not an .npz" if path.exists() else "is unknown, and there is no such folder"
        fix = "use mnist, kaggle, digits, a path ending in .npz or a folder of idx files"
        raise InputError(f"data {name!r}", problem, fix)
    arrays = read_folder(path) if path.is_dir() else read_arrays(path)
    own_name = path.resolve().name.removesuffix(".npz")
    if own_name in ("mnist", "kaggle", "digits"):  # special treatment of those data must not apply
        own_name = f"own-{own_name}"
    return _read_only(Digits(own_name, *arrays, int(arrays[1].max()) + 1))


def _read_only(digits: Digits) -> Digits:
    """Return the data with int32 labels and read-only arrays, whatever their source."""
    y_test = None if digits.y_test is None else digits.y_test.astype(np.int32)
    digits = digits._replace(y_train=digits.y_train.astype(np.int32), y_test=y_test)
    for array in digits:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return digits


def stratified_split(labels: np.ndarray, *, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices at random into training and validation, with the same fraction of every class.

    Args:
        labels: (N,) int.
        fraction: part of each class in (0, 1) that goes to validation, rounded; at least one index, never all.
        seed: determines the split.

    Returns:
        Training indices and validation indices, sorted; each index of `labels` is in one of them.

    Raises:
        InputError: `fraction` is out of range, or a class has a single example.

    >>> stratified_split(np.array([0, 0, 1, 1]), fraction=0.5, seed=0)
    (array([1, 3]), array([0, 2]))
    """
    if not 0 < fraction < 1:
        raise InputError("fraction", f"is {fraction}, not between 0 and 1", "use 0.1, for instance")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=len(labels)) < 2:
        problem = f"class {classes[np.argmin(counts)]} has a single example" if len(labels) else "there are none"
        raise InputError("labels", f"{problem}, too few to split", "provide at least two examples of every class")
    rng = np.random.default_rng(seed)
    valid = []
    for label, count in zip(classes, counts, strict=True):
        size = min(max(round(fraction * int(count)), 1), int(count) - 1)
        valid.append(rng.permutation(np.flatnonzero(labels == label))[:size])
    valid_rows = np.sort(np.concatenate(valid))
    return np.setdiff1d(np.arange(len(labels)), valid_rows), valid_rows


def stratified_folds(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return sorted training and validation indices of each cross-validation fold; deterministic.

    Args:
        labels: (N,) int.
        folds: number of folds, from 2 to the number of examples of the rarest class.

    Raises:
        InputError: `folds` is out of range.
    """
    from sklearn.model_selection import StratifiedKFold

    rarest = int(np.unique(labels, return_counts=True)[1].min())
    if not 2 <= folds <= rarest:
        fix = f"give an integer from 2 to {rarest}, the number of examples of the rarest class"
        raise InputError("folds", f"is {folds}", fix)
    return list(StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels))


def digest(digits: Digits) -> str:
    """Return the SHA-256, in hexadecimal, of names, dtypes, shapes and values of all arrays."""
    total = hashlib.sha256()
    for name, array in digits._asdict().items():
        if isinstance(array, np.ndarray):
            total.update(f"{name} {array.dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
