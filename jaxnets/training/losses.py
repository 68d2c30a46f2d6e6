"""(images, targets, weights) -> a loss: softmax cross-entropy against soft targets."""

import jax
import jax.numpy as jnp
import optax


def soft_targets(targets: jax.Array, weights: jax.Array, *, smoothing: float) -> jax.Array:
    """targets (B, K) probabilities, weights (B,) -> (B, K): smoothed rows (Szegedy et al. 2016, section 7) that sum
    to their weight. Cross-entropy is linear in its targets, so a row that sums to w counts w times, after MixUp too."""
    return optax.smooth_labels(targets, smoothing) * weights[:, None]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """logits (B, K), targets (B, K) >= 0 -> the mean over the batch, a float32 scalar."""
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets).mean()
