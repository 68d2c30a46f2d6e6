"""Training: minibatches, epochs and predictions. It works on arrays in memory; files are read and written elsewhere."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from scratch.deform import DeformConfig, deform
from scratch.losses import log_softmax, smooth_labels
from scratch.mlp import Params, forward, init_params, loss_and_grads
from scratch.optim import cosine_rate, sgd_update, zeros_like

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Configuration of a training: all that it depends on besides the data and the seed."""

    widths: tuple[int, ...] = (784, 64, 10)
    activation: Literal["sigmoid", "tanh", "relu"] = "relu"
    loss: Literal["cross_entropy", "quadratic"] = "cross_entropy"
    init_std: float | None = None  # standard deviation of the weights; None means sqrt(2 / inputs)
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    schedule: Literal["constant", "cosine"] = "cosine"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    deformation: DeformConfig | None = None


class State(NamedTuple):
    """All that a training needs to continue after `epoch` epochs."""

    epoch: int
    params: Params
    velocity: Params


def init_state(settings: MLPConfig, *, seed: int) -> State:
    """Return the state before the first epoch."""
    params = init_params(np.random.default_rng([seed, 0]), settings.widths, std=settings.init_std)
    return State(0, params, zeros_like(params))


def fit(
    images: np.ndarray, labels: np.ndarray, settings: MLPConfig, *, seed: int, state: State | None = None
) -> Iterator[tuple[State, float]]:
    """Train and yield (state, mean training loss) after each epoch, from `state` on if it is given.

    images (N, H, W) or (N, I) float32 in [0, 1], labels (N,) of integers. The next epoch overwrites the arrays of
    `state`, so copy what you keep. The random numbers of an epoch depend only on `seed` and its number, so a training
    that resumes from a saved state gives bitwise identical results.
    """
    state = init_state(settings, seed=seed) if state is None else state
    targets = smooth_labels(labels, settings.widths[-1], smoothing=settings.label_smoothing)
    for epoch in range(state.epoch, settings.epochs):
        rng = np.random.default_rng([seed, epoch + 1])
        rates = learning_rates(settings, epoch, steps=-(-len(images) // settings.batch_size))
        loss = train_epoch(state, minibatches(rng, images, targets, settings), settings, rates)
        state = state._replace(epoch=epoch + 1)
        yield state, loss


def minibatches(
    rng: np.random.Generator, images: np.ndarray, targets: np.ndarray, settings: MLPConfig
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches x (B, I), targets (B, K) of all rows in random order; the last batch may be smaller."""
    order = rng.permutation(len(images))
    batches = (order[first : first + settings.batch_size] for first in range(0, len(order), settings.batch_size))
    if settings.deformation is None:
        return ((flatten(images[rows]), targets[rows]) for rows in batches)
    strength = settings.deformation
    return prefetch((flatten(deform(rng, images[rows], strength)), targets[rows]) for rows in batches)


def flatten(images: np.ndarray) -> np.ndarray:
    """images (N, H, W) or (N, I) -> (N, I)."""
    return images.reshape(len(images), -1)


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the items. A thread computes the next one while the current one is used; NumPy releases Python's lock."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def train_epoch(
    state: State, batches: Iterable[tuple[np.ndarray, np.ndarray]], settings: MLPConfig, rates: list[float]
) -> float:
    """Update the arrays of `state` in place, one step per batch, and return the mean loss of the steps."""
    total = 0.0
    for (x, targets), learning_rate in zip(batches, rates, strict=True):
        value, grads = loss_and_grads(state.params, x, targets, activation=settings.activation, loss=settings.loss)
        sgd_update(
            state.params,
            state.velocity,
            grads,
            learning_rate=learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
        total += float(value)
    return total / len(rates)


def learning_rates(settings: MLPConfig, epoch: int, steps: int) -> list[float]:
    """Return the learning rate of each of the `steps` of an epoch."""
    if settings.schedule == "constant":
        return [settings.learning_rate] * steps
    first, total = epoch * steps, settings.epochs * steps
    return [cosine_rate(step, peak=settings.learning_rate, steps=total) for step in range(first, first + steps)]


def predict(params: Params, images: np.ndarray, settings: MLPConfig) -> np.ndarray:
    """Return the log-probabilities (N, K) of images (N, H, W) or (N, I) float32."""
    starts = range(0, len(images), 1000)
    logits = [forward(params, flatten(images[i : i + 1000]), activation=settings.activation)[0] for i in starts]
    return log_softmax(np.concatenate(logits))


def accuracy(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of rows whose most probable class is the label. log_probs (N, K), labels (N,)."""
    return float((log_probs.argmax(axis=1) == labels).mean())
