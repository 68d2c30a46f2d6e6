"""Batch-norm statistics of images without augmentation: augmentation blurs the images and shifts their statistics."""

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
    """Return batch-norm statistics recomputed on images (N, H, W, C) uint8: the mean moments of all full batches.

    As test images are not augmented either, this removes a difference between training and test (airbench; FixRes,
    Touvron et al. 2019). Without batch norm, or with fewer images than a batch, `stats` is returned unchanged. The
    first device computes it, so the result does not depend on the number of devices.
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
