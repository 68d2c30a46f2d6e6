"""The loss: softmax cross-entropy against soft, weighted targets."""

import jax
import jax.numpy as jnp
import optax


def soft_targets(targets: jax.Array, weights: jax.Array, *, smoothing: float) -> jax.Array:
    """Smooth targets (Szegedy et al. 2016, section 7) and multiply them by the examples' weights.

    targets (B, K) probabilities, weights (B,) -> (B, K). Cross-entropy is linear in its targets, so a row that sums
    to w has w times the loss, after MixUp too.
    """
    return optax.smooth_labels(targets, smoothing) * weights[:, None]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean cross-entropy over the batch, a float32 scalar. logits (B, K), targets (B, K) >= 0."""
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets).mean()
