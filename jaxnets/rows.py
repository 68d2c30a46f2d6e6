"""Which images a network was trained on, a hash each, so that nobody scores it on them: many test sets of handwritten
digits are in part other sets' training rows."""

import hashlib
from pathlib import Path

import numpy as np

from jaxnets.files import atomic_file

FILE = "train_rows.npy"


def hash_rows(images: np.ndarray) -> np.ndarray:
    """images (N, ...) uint8 -> (N,) uint64: 64 bits of each image's BLAKE2b, equal for equal pixels."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), np.uint64)


def write_rows(folder: Path, images: np.ndarray) -> None:
    """Leaves in a run's folder the hashes of the images that it was trained on, sorted, each once."""
    with atomic_file(folder / FILE) as draft, draft.open("wb") as file:
        np.save(file, np.unique(hash_rows(images)))


def was_trained_on(folder: Path, images: np.ndarray) -> np.ndarray:
    """images (N, ...) uint8 -> (N,) whether the run in `folder` was trained on them. FileNotFoundError if it does not
    say."""
    return np.isin(hash_rows(images), np.load(folder / FILE, allow_pickle=False))
