"""One training step as a pure function of a state, of arrays, and of each image's place in the global batch; it has two
halves, the pictures' and the network's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.augment import augment, mixup
from jaxnets.config import Training
from jaxnets.devices import AXIS
from jaxnets.models.functional import Arrays, apply
from jaxnets.training.losses import cross_entropy, soft_targets

LOSS_SCALE = {"float16": 1024.0}
"""Gradients smaller than 6e-8 vanish in float16: the loss is scaled up before they are taken, and they back down
after."""


class TrainState(NamedTuple):
    """All that a run needs to go on, arrays only: so it is the checkpoint. `average` has `params` and `stats`, the
    exponential moving averages that are evaluated and kept; `key` is the raw data of a key that is never advanced."""

    step: jax.Array
    params: Arrays
    stats: Arrays
    opt_state: Any
    average: dict[str, Arrays]
    key: jax.Array


class Examples(NamedTuple):
    """Arrays of NumPy or of JAX: images (B, H, W, C) uint8, targets (B, K) float32 probabilities, weights (B,) float32,
    which say how much each example counts."""

    images: Any
    targets: Any
    weights: Any


def one_hot_examples(images: np.ndarray, labels: np.ndarray, num_classes: int) -> Examples:
    """labels (B,) become one-hot targets, and every example counts as one."""
    return Examples(images, np.eye(num_classes, dtype=np.float32)[labels], np.ones(len(labels), np.float32))


@dataclass(frozen=True)
class Step:
    """prepare(key, step, batch, places) -> images (B, H, W, C) float32, targets (B, K); update(state, images, targets)
    -> state, metrics. Called, it does one after the other; a CPU runs them as two programs (see `parallel`)."""

    prepare: Callable[[jax.Array, jax.Array, Examples, jax.Array], tuple[jax.Array, jax.Array]]
    update: Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, dict[str, jax.Array]]]

    def __call__(
        self, state: TrainState, batch: Examples, places: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """places (B,) are the images' places in the global batch."""
        return self.update(state, *self.prepare(state.key, state.step, batch, places))


def init_state(params: Arrays, stats: Arrays, optimizer: optax.GradientTransformation, *, seed: int) -> TrainState:
    average = {"params": params, "stats": stats}
    key = jax.random.key_data(jax.random.key(seed))
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), average, key)


def moving_average(average: Any, value: Any, step: jax.Array, *, decay: float) -> Any:
    """Early on the decay is smaller, (1 + t) / (10 + t), so that the first random weights are soon forgotten."""
    share = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: share * old + (1 - share) * new, average, value)


def make_train_step(
    graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, training: Training, *, precision: str
) -> Step:
    scale = LOSS_SCALE.get(precision, 1.0)

    def prepare(key: jax.Array, step: jax.Array, batch: Examples, places: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.wrap_key_data(key), step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
        keys_warp, keys_mixup = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
        images = augment(keys_warp, batch.images.astype(jnp.float32) / 255, training.augmentation)
        targets = soft_targets(batch.targets, batch.weights, smoothing=training.label_smoothing)
        return mixup(keys_mixup, images, targets, alpha=training.augmentation.mixup_alpha)

    def loss_fn(params: Arrays, stats: Arrays, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
        logits, stats = apply(graphdef, params, stats, images, train=True)
        loss = cross_entropy(logits, targets)
        correct = (logits.argmax(-1) == targets.argmax(-1)).mean()
        return scale * loss, (stats, loss, correct)

    def update(state: TrainState, images: jax.Array, targets: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        grads, (stats, loss, correct) = jax.grad(loss_fn, has_aux=True)(state.params, state.stats, images, targets)
        grads, loss, correct = jax.lax.pmean((grads, loss, correct), AXIS)
        grads = jax.tree.map(lambda grad: grad / scale, grads)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        value = {"params": params, "stats": stats}
        average = moving_average(state.average, value, state.step, decay=training.ema_decay)
        metrics = {"loss": loss, "accuracy": correct, "gradient_norm": optax.tree.norm(grads)}
        metrics["statistics_norm"] = optax.tree.norm(stats)  # a variance may overflow, and the loss does not show it
        return TrainState(state.step + 1, params, stats, opt_state, average, state.key), metrics

    return Step(prepare, update)
