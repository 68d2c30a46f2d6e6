"""The one door to data: files -> `Digits`, a fixed split into rows, and the answers' file."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.arrays import read_arrays, read_bundled_digits, read_folder
from jaxnets.data.kaggle import read_kaggle
from jaxnets.data.mnist import read_mnist
from jaxnets.errors import InputError


class Digits(NamedTuple):
    """Images and their classes: N training rows, T test rows, K classes. The arrays are read-only."""

    name: str  # "mnist", "kaggle", "digits", or another: that of the folder or, without its ending, the .npz file
    x_train: np.ndarray  # (N, H, W, C) uint8
    y_train: np.ndarray  # (N,) int32 in [0, K)
    x_test: np.ndarray  # (T, H, W, C) uint8
    y_test: np.ndarray | None  # (T,) int32, or None where the test rows have no labels
    num_classes: int


def load(name: str, path: Path | None = None, *, folder: Path = Path("data")) -> Digits:
    """The data called `name`, whole and checked; InputError tells what is wrong with it and where.

    mnist       the four idx files in the folder `path`, or in `folder`/mnist, fetched if they are missing there
    kaggle      the competition's zip or the folder with its tables at `path`, or in `folder`; no test labels
    digits      scikit-learn's 1,797 digits of 8 x 8, of which a fixed fifth is for testing
    NAME.npz    arrays x_train, y_train, x_test and perhaps y_test
    FOLDER      four idx files under MNIST's names, as Fashion-MNIST and KMNIST have them

    `path` goes with mnist and kaggle alone.
    """
    if path is not None and name not in ("mnist", "kaggle"):
        raise InputError(f"data {name}", "takes no path", "leave the path out, or name mnist or kaggle")
    if name == "mnist":
        x_train, y_train, x_test, y_test = read_mnist(path, folder)
        return digits_of(name, x_train[..., None], y_train, x_test[..., None], y_test, 10)
    if name == "kaggle":
        return digits_of(name, *read_kaggle(path, folder), None, 10)
    if name == "digits":
        images, labels = read_bundled_digits()
        train, test = stratified_split(labels, fraction=0.2, seed=0)
        return digits_of(name, images[train], labels[train], images[test], labels[test], 10)
    path = Path(name)
    if name.endswith(".npz") or path.is_dir():
        arrays = read_folder(path) if path.is_dir() else read_arrays(path)
        return digits_of(name_of(path), *arrays, int(arrays[1].max()) + 1)
    fix = "use mnist, kaggle, digits, a path ending in .npz or a folder of idx files"
    problem = "is a file, but no .npz" if path.exists() else "is not known, nor is there such a folder"
    raise InputError(f"data {name!r}", problem, fix)


def name_of(path: Path) -> str:
    """What data from a path are called: never as those that are known by name, of which more is known."""
    name = path.resolve().name.removesuffix(".npz")
    return f"own-{name}" if name in ("mnist", "kaggle", "digits") else name


def digits_of(
    name: str,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray | None,
    num_classes: int,
) -> Digits:
    y_test = None if y_test is None else y_test.astype(np.int32)
    digits = Digits(name, x_train, y_train.astype(np.int32), x_test, y_test, num_classes)
    for array in digits:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False  # some come read-only from their file; none may depend on how it was read
    return digits


def stratified_split(labels: np.ndarray, *, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to validate on, each sorted, together all rows once; fixed by `seed`.

    `fraction` of every class, in (0, 1), goes to the second part, rounded, but at least one row and never all.
    InputError if a class has a single row.
    """
    if not 0 < fraction < 1:
        raise InputError("fraction", f"is {fraction}, not between 0 and 1", "use 0.1, for instance")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min(initial=len(labels)) < 2:
        problem = f"class {classes[np.argmin(counts)]} has a single row" if len(labels) else "there are none"
        raise InputError("labels", f"{problem}, too few to split", "bring at least two rows of every class")
    rng = np.random.default_rng(seed)
    valid = []
    for label, count in zip(classes, counts, strict=True):
        size = min(max(round(fraction * int(count)), 1), int(count) - 1)
        valid.append(rng.permutation(np.flatnonzero(labels == label))[:size])
    valid_rows = np.sort(np.concatenate(valid))
    return np.setdiff1d(np.arange(len(labels)), valid_rows), valid_rows


def stratified_folds(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """labels (N,) -> for each fold the rows to train on and the rows to validate on, sorted; always the same ones.

    InputError unless there are at least two folds, and a row of every class for each.
    """
    from sklearn.model_selection import StratifiedKFold

    rarest = int(np.unique(labels, return_counts=True)[1].min())
    if not 2 <= folds <= rarest:
        raise InputError("folds", f"is {folds}", f"give 2 to {rarest}, the number of rows of the rarest class")
    return list(StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels))


def digest(digits: Digits) -> str:
    """SHA-256 in hexadecimal over name, type, shape and content of every array; equal data, equal digest."""
    total = hashlib.sha256()
    for name, array in digits._asdict().items():
        if isinstance(array, np.ndarray):
            total.update(f"{name} {array.dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
