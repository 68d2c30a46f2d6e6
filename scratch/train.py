"""Training: minibatches, epochs, answers. Arrays in, arrays out; files and pictures are other people's business."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from scratch.deform import Strength, deform
from scratch.losses import log_softmax, smooth_labels
from scratch.mlp import Params, forward, init_params, loss_and_grads
from scratch.optim import cosine_rate, sgd_update, zeros_like

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a training depends on, but for the pictures and the seed."""

    widths: tuple[int, ...] = (784, 64, 10)
    activation: Literal["sigmoid", "tanh", "relu"] = "relu"
    loss: Literal["cross_entropy", "quadratic"] = "cross_entropy"
    init_std: float | None = None  # None: sqrt(2 / inputs)
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    schedule: Literal["constant", "cosine"] = "cosine"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    deformation: Strength | None = None


class State(NamedTuple):
    """All that a training needs to go on, after `epoch` epochs."""

    epoch: int
    params: Params
    velocity: Params


def start(settings: Settings, *, seed: int) -> State:
    params = init_params(np.random.default_rng([seed, 0]), settings.widths, std=settings.init_std)
    return State(0, params, zeros_like(params))


def fit(
    images: np.ndarray, labels: np.ndarray, settings: Settings, *, seed: int, state: State | None = None
) -> Iterator[tuple[State, float]]:
    """Yields (state, mean training loss) after each epoch, from `state` on.

    images (N, H, W) or (N, I) float32 in [0, 1], labels (N,) of integers. The next epoch overwrites the arrays of
    `state`: copy what you keep. What an epoch draws depends on `seed` and its number alone, so a training that goes
    on from a saved state ends in the same bits.
    """
    state = start(settings, seed=seed) if state is None else state
    targets = smooth_labels(labels, settings.widths[-1], smoothing=settings.label_smoothing)
    for epoch in range(state.epoch, settings.epochs):
        rng = np.random.default_rng([seed, epoch + 1])
        rates = learning_rates(settings, epoch, steps=-(-len(images) // settings.batch_size))
        loss = train_epoch(state, minibatches(rng, images, targets, settings), settings, rates)
        state = state._replace(epoch=epoch + 1)
        yield state, loss


def minibatches(
    rng: np.random.Generator, images: np.ndarray, targets: np.ndarray, settings: Settings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every row once, in random order: x (B, I), targets (B, K). The last batch may be smaller."""
    order = rng.permutation(len(images))
    parts = (order[first : first + settings.batch_size] for first in range(0, len(order), settings.batch_size))
    if settings.deformation is None:
        return ((flat(images[rows]), targets[rows]) for rows in parts)
    strength = settings.deformation
    return ahead((flat(deform(rng, images[rows], strength)), targets[rows]) for rows in parts)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """`items`, the next one made in a thread while the last one is used: NumPy computes without Python's lock."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def train_epoch(
    state: State, batches: Iterable[tuple[np.ndarray, np.ndarray]], settings: Settings, rates: list[float]
) -> float:
    """Moves the arrays of `state` on, a step a batch at the rate for it -> the mean loss of the steps."""
    total = 0.0
    for (x, targets), rate in zip(batches, rates, strict=True):
        value, grads = loss_and_grads(state.params, x, targets, activation=settings.activation, loss=settings.loss)
        sgd_update(
            state.params,
            state.velocity,
            grads,
            rate=rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
        total += float(value)
    return total / len(rates)


def learning_rates(settings: Settings, epoch: int, steps: int) -> list[float]:
    """The rate of each of an epoch's `steps`."""
    if settings.schedule == "constant":
        return [settings.learning_rate] * steps
    first, total = epoch * steps, settings.epochs * steps
    return [cosine_rate(step, peak=settings.learning_rate, steps=total) for step in range(first, first + steps)]


def predict(params: Params, images: np.ndarray, settings: Settings) -> np.ndarray:
    """images (N, H, W) or (N, I) float32 -> log-probabilities (N, K)."""
    parts = range(0, len(images), 1000)
    logits = [forward(params, flat(images[i : i + 1000]), activation=settings.activation)[0] for i in parts]
    return log_softmax(np.concatenate(logits))


def accuracy(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """log_probs (N, K), labels (N,) -> the share of rows whose likeliest class is the label."""
    return float((log_probs.argmax(axis=1) == labels).mean())
