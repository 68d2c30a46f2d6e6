"""What every library is given to do, and what it hands back to be timed."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnets.config import TrainConfig

WORKS = ("step", "loop", "infer", "tta")
"""Training steps alone; with augmentation and shuffling; answers; answers through fixed views."""


class Case(NamedTuple):
    """images (N, 28, 28, 1) uint8, labels (N,); N is a multiple of the batch. `steps` of training are timed at once,
    and answers to the first `answered` images; test-time augmentation sees `views` of an eighth of them. All devices
    work unless `devices` says how many."""

    family: str
    sizes: Mapping[str, int]
    training: TrainConfig
    precision: str
    images: np.ndarray
    labels: np.ndarray
    steps: int
    answered: int
    views: int
    devices: int | None = None

    def count(self, work: str) -> int:
        """How many images a call of that work is through with."""
        trained = self.steps * self.training.batch_size
        return {"step": trained, "loop": trained, "infer": self.answered, "tta": len(self.viewed())}[work]

    def viewed(self) -> np.ndarray:
        return self.images[: self.answered // 8]


class Weights(NamedTuple):
    """Where all begin: jaxnets' arrays, and its float32 logits (B, K) for `probe` (B, H, W, 1) in
    training mode."""

    params: dict[str, Any]
    stats: dict[str, Any]
    probe: np.ndarray
    logits: np.ndarray

    def check(self, logits: np.ndarray, library: str) -> None:
        """RuntimeError unless the other library's network is the same function: then nothing is worth timing."""
        difference = float(np.abs(logits - self.logits).max())
        if difference > 1e-3:
            raise RuntimeError(f"{library}'s network differs from that of jaxnets: logits by {difference:.2g}")


class Side(NamedTuple):
    """A library ready to work: each call of `works[name]` does it once and returns when it is done."""

    works: dict[str, Callable[[], Any]]
    device_bytes: Callable[[], int | None]
    facts: dict[str, Any]
