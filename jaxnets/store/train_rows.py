"""Hashes of the labelled images that a model was trained on, to keep it from being evaluated on them.

Many test sets of handwritten digits contain training images of other sets. Test images that a student learnt without
their labels are not recorded; config.json has their number.
"""

import hashlib
import io
from pathlib import Path

import numpy as np

from jaxnets.errors import InputError, short_message
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import read_bytes

FILE_NAME = "train_rows.npy"
RETRAIN_HINT = "train this model again, or fetch it again"
MAX_BYTES = 1 << 28
"""Maximum size of the file: 33 million images."""


def hash_rows(images: np.ndarray) -> np.ndarray:
    """Return a hash of every image, equal for equal pixels: 64 bits of its BLAKE2b.

    Args:
        images: (N, ...) uint8.

    Returns:
        (N,) uint64.
    """
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), np.uint64)


def write_rows(folder: Path, images: np.ndarray) -> None:
    """Write the hashes of the labelled training images (N, ...) uint8 to a model's folder, sorted and unique."""
    with atomic_file(folder / FILE_NAME) as temporary, temporary.open("wb") as file:
        np.save(file, np.unique(hash_rows(images)))


def was_trained_on(folder: Path, images: np.ndarray) -> np.ndarray:
    """Return for each image whether the model in `folder` was trained on it and its label.

    Args:
        folder: the model's folder.
        images: (N, ...) uint8.

    Returns:
        (N,) bool.

    Raises:
        InputError: the folder has no hashes, or they are damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise InputError(
            folder, f"does not record which images it was trained on: it has no {FILE_NAME}", "train it again"
        )
    try:
        known = np.load(io.BytesIO(read_bytes(path, limit=MAX_BYTES)), allow_pickle=False)
        if known.dtype != np.uint64:
            raise ValueError(f"expected uint64, got {known.dtype}")
    except InputError as error:
        raise InputError(path, error.problem, RETRAIN_HINT) from error
    except Exception as error:  # NumPy raises a dozen types for a damaged file
        raise InputError(path, f"is damaged ({short_message(error)})", RETRAIN_HINT) from error
    return np.isin(hash_rows(images), known)
