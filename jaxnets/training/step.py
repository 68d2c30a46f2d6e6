"""One training step: a pure function of a state, a batch, and each image's index in the global batch. It is split into
input preparation and model update."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

from jaxnets.augment import augment, mixup
from jaxnets.config import TrainConfig
from jaxnets.devices import AXIS, target_platform
from jaxnets.models.functional import Arrays, apply
from jaxnets.training.losses import cross_entropy, soft_targets

LOSS_SCALE = {"float16": 1024.0}
"""Factor of the loss before differentiation; the gradients are divided by it. In float16 those below 6e-8 vanish."""


class TrainState(NamedTuple):
    """All that a training needs to continue: arrays only."""

    step: jax.Array
    """Number of finished steps, int32."""
    params: Arrays
    stats: Arrays
    """Running statistics of batch norm."""
    opt_state: Any
    ema: dict[str, Arrays]
    """Exponential moving averages of `params` and `stats`, under these names: what is evaluated and kept."""
    key: jax.Array
    """Raw data of the JAX key of this training; it never changes, each step folds its number in."""


class Examples(NamedTuple):
    """Training examples, as NumPy or JAX arrays."""

    images: Any
    """(B, H, W, C) uint8."""
    targets: Any
    """(B, K) float32 probabilities."""
    weights: Any
    """(B,) float32 factors of each example's loss."""


def one_hot_examples(images: np.ndarray, labels: np.ndarray, num_classes: int) -> Examples:
    """images (B, H, W, C) uint8, labels (B,) integers -> examples with one-hot targets and weight 1."""
    return Examples(images, np.eye(num_classes, dtype=np.float32)[labels], np.ones(len(labels), np.float32))


@dataclass(frozen=True)
class Step:
    """A training step in two halves; a CPU runs them as two programs (see `parallel`).

    prepare(key, step, batch, indices) -> images, targets (see `prepare_batch`).
    update(state, images, targets) -> state, metrics (see `make_train_step`).
    """

    prepare: Callable[[jax.Array, jax.Array, Examples, jax.Array], tuple[jax.Array, jax.Array]]
    update: Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, dict[str, jax.Array]]]

    def __call__(
        self, state: TrainState, batch: Examples, indices: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Run the whole step. indices (B,) are those of the batch's images in the global batch."""
        return self.update(state, *self.prepare(state.key, state.step, batch, indices))


def init_state(params: Arrays, stats: Arrays, optimizer: optax.GradientTransformation, *, seed: int) -> TrainState:
    """Return the state before the first step. All random numbers of the training follow from `seed`."""
    ema = {"params": params, "stats": stats}
    key = jax.random.key_data(jax.random.key(seed))
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), ema, key)


def moving_average(average: Any, value: Any, step: jax.Array, *, decay: float) -> Any:
    """Return the exponential moving average of trees after step t. The decay is at most (1 + t) / (10 + t), so that the
    random initial weights are soon forgotten."""
    weight = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: weight * old + (1 - weight) * new, average, value)


def prepare_batch(
    key: jax.Array, step: jax.Array, batch: Examples, indices: jax.Array, *, training: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """Return a batch's augmented images (B, H, W, C) float32 in [0, 1], and targets (B, K). The random numbers of an
    image depend on `key`, the step, and its index in the global batch alone."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, indices)
    keys_warp, keys_mixup = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    images = augment(keys_warp, batch.images.astype(jnp.float32) / 255, training.augmentation)
    targets = soft_targets(batch.targets, batch.weights, smoothing=training.label_smoothing)
    return mixup(keys_mixup, images, targets, alpha=training.augmentation.mixup_alpha)


def average_over_devices(tree: Any) -> Any:
    """Return the mean of a float32 tree over the devices. Accelerators average it as one vector: XLA also combines the
    leaves, but copies each back by a separate kernel instead of reading it where it is."""
    if target_platform() == "cpu":
        return jax.lax.pmean(tree, AXIS)
    vector, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(vector, AXIS))


def make_train_step(
    graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, training: TrainConfig, *, precision: str
) -> Step:
    """Return the training step of a model: augmentation, gradients averaged over the devices, optimizer, EMA.

    It runs under a mapped axis named AXIS, each device with its part of the global batch. `precision` is the dtype in
    which the model computes; in float16 the loss is scaled.

    The metrics of a step are float32 scalars, averaged over the global batch:
        loss: cross-entropy against the augmented, smoothed targets.
        accuracy: fraction of predictions that equal the argmax of the augmented targets (after MixUp, of the blend).
        gradient_norm: global norm of the gradients before clipping.
        statistics_norm: global norm of the batch-norm statistics. Their variance may overflow while the loss is finite.
    """
    scale = LOSS_SCALE.get(precision, 1.0)

    def loss_fn(params: Arrays, stats: Arrays, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
        logits, stats = apply(graphdef, params, stats, images, train=True)
        loss = cross_entropy(logits, targets)
        accuracy = (logits.argmax(-1) == targets.argmax(-1)).mean()
        return scale * loss, (stats, loss, accuracy)

    def update(state: TrainState, images: jax.Array, targets: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        grads, (stats, loss, accuracy) = jax.grad(loss_fn, has_aux=True)(state.params, state.stats, images, targets)
        grads, loss, accuracy = average_over_devices((grads, loss, accuracy))
        grads = jax.tree.map(lambda grad: grad / scale, grads)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = moving_average(state.ema, {"params": params, "stats": stats}, state.step, decay=training.ema_decay)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": optax.tree.norm(grads),
            "statistics_norm": optax.tree.norm(stats),
        }
        return TrainState(state.step + 1, params, stats, opt_state, ema, state.key), metrics

    return Step(partial(prepare_batch, training=training), update)
