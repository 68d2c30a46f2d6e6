"""The optimizer: AdamW with gradient clipping, a warm-up and a cosine schedule."""

from typing import Any

import jax
import optax

from jaxnets.config import TrainConfig


def learning_rate(training: TrainConfig, total_steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step: it rises linearly from a tenth of the peak, then follows half
    a cosine to zero at `total_steps`."""
    warmup_steps = max(1, round(training.warmup * total_steps))
    peak = training.learning_rate
    return optax.warmup_cosine_decay_schedule(0.1 * peak, peak, warmup_steps, max(total_steps, warmup_steps + 1))


def is_kernel(params: Any) -> Any:
    """Return a tree of booleans: True for kernels, False for biases and batch norm's scales."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(training: TrainConfig, total_steps: int) -> optax.GradientTransformation:
    """Return AdamW (Loshchilov and Hutter 2019) with decay on kernels only, after clipping by the global norm."""
    schedule = learning_rate(training, total_steps)
    return optax.chain(
        optax.clip_by_global_norm(training.clip_norm),
        optax.adamw(schedule, weight_decay=training.weight_decay, mask=is_kernel),
    )
