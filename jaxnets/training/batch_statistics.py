"""Batch-norm statistics of images without augmentation, which blurs what training sees and shifts its statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.devices import AXIS, Devices
from jaxnets.models.blocks import MOMENTUM
from jaxnets.models.functional import Arrays, apply


def reestimate(
    graphdef: nnx.GraphDef, params: Arrays, stats: Arrays, images: np.ndarray, devices: Devices, *, batch_size: int
) -> Arrays:
    """-> `stats` re-estimated: the mean of every batch's moments over images (N, H, W, C) uint8 without augmentation,
    in their order; a last batch that is not full is left out. The first device computes it, whatever their number.

    After airbench and FixRes (Touvron et al. 2019): test images are not augmented either.
    """
    if not jax.tree.leaves(stats) or len(images) < batch_size:
        return stats
    params, stats = jax.device_get((params, stats))

    def add(total: Arrays, params: Arrays, batch: jax.Array) -> Arrays:
        zeros = jax.tree.map(jnp.zeros_like, total)
        _, moments = apply(graphdef, params, zeros, batch.astype(jnp.float32) / 255, train=True)
        return jax.tree.map(jnp.add, total, moments)

    mapped = jax.pmap(add, AXIS, in_axes=(None, None, 0), out_axes=None, devices=[devices[0]])
    total: Any = jax.tree.map(np.zeros_like, stats)
    starts = range(0, len(images) - batch_size + 1, batch_size)
    for start in starts:
        total = mapped(total, params, images[None, start : start + batch_size])
    return jax.tree.map(lambda x: np.asarray(x) / np.float32(len(starts) * (1 - MOMENTUM)), total)
