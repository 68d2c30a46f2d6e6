"""Which labelled images a network was trained on, a hash each, so that nobody scores it on them: many test sets of
handwritten digits are in part other sets' training rows. Test images that a student learnt without their labels are not
among them; its config.json says how many they were."""

import hashlib
import io
from pathlib import Path

import numpy as np

from jaxnets.errors import InputError, brief
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import read_bytes

FILE = "train_rows.npy"
AGAIN = "train this run again, or fetch it again"
LIMIT = 1 << 28
"""Bytes of such a file: 33 million images."""


def hash_rows(images: np.ndarray) -> np.ndarray:
    """images (N, ...) uint8 -> (N,) uint64: 64 bits of each image's BLAKE2b, equal for equal pixels."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), np.uint64)


def write_rows(folder: Path, images: np.ndarray) -> None:
    """Leaves in a run's folder the hashes of the labelled images that it was trained on, sorted, each once."""
    with atomic_file(folder / FILE) as draft, draft.open("wb") as file:
        np.save(file, np.unique(hash_rows(images)))


def was_trained_on(folder: Path, images: np.ndarray) -> np.ndarray:
    """images (N, ...) uint8 -> (N,) whether the run in `folder` was trained on them and their labels. InputError if it
    does not say."""
    path = folder / FILE
    if not path.exists():
        problem = "does not say which images it was trained on"
        raise InputError(folder, problem, "train it again, or give --allow-trained-rows")
    try:
        known = np.load(io.BytesIO(read_bytes(path, limit=LIMIT)), allow_pickle=False)
        if known.dtype != np.uint64:
            raise ValueError(f"hashes of type {known.dtype}")
    except InputError as error:
        raise InputError(path, error.problem, AGAIN) from error
    except Exception as error:  # NumPy has a dozen kinds for a damaged file
        raise InputError(path, f"is damaged ({brief(error)})", AGAIN) from error
    return np.isin(hash_rows(images), known)
