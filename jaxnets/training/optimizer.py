"""The optimiser of a run: AdamW under gradient clipping, its rate warmed up and then cosine to zero."""

from typing import Any

import jax
import optax

from jaxnets.config import Training


def learning_rate(training: Training, total_steps: int) -> optax.Schedule:
    """step -> rate: linear from a tenth of the peak, then half a cosine to zero at `total_steps`."""
    warmup_steps = max(1, round(training.warmup * total_steps))
    peak = training.learning_rate
    return optax.warmup_cosine_decay_schedule(0.1 * peak, peak, warmup_steps, max(total_steps, warmup_steps + 1))


def is_kernel(params: Any) -> Any:
    """The tree of params as booleans: true for weights, false for biases and batch norm's scales."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(training: Training, total_steps: int) -> optax.GradientTransformation:
    """Loshchilov and Hutter 2019, with the decay on kernels only; gradients clipped by their global norm."""
    rate = learning_rate(training, total_steps)
    return optax.chain(
        optax.clip_by_global_norm(training.clip_norm),
        optax.adamw(rate, weight_decay=training.weight_decay, mask=is_kernel),
    )
