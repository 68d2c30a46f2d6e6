"""Images -> log-probabilities, through any number of fixed views, on all devices; every row is answered."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.augment import Warp, warp_image
from jaxnets.devices import AXIS, Devices, compile_optimized, is_replicated, replicate
from jaxnets.errors import DivergedError
from jaxnets.models.functional import Arrays, apply

CPU_BATCH, ACCELERATOR_BATCH = 128, 1024
"""Images a device and call; the answers depend on it in their last bits alone. On two cores 512 were twice
as slow as 128."""

Predict = Callable[..., np.ndarray]


def require_finite(log_probs: np.ndarray, whose: str) -> np.ndarray:
    """log_probs (..., N, K) as they are; DivergedError if some are not finite: nothing is to be made of them."""
    if not np.isfinite(log_probs).all():
        raise DivergedError(f"{whose}: not all answers are finite")
    return log_probs


def make_predict(graphdef: nnx.GraphDef, devices: Devices, *, batch_size: int | None = None) -> Predict:
    """-> predict(params, stats, images (N, H, W, C) uint8, view) -> log_probs (N, K) float32.

    `view` is the warp through which the network sees every image; without one it sees the image itself. The last
    batch is padded, and what answers the padding is cut off. Arrays from `replicate` are used where they lie.
    """

    def look(images: jax.Array, view: Warp | None) -> jax.Array:
        images = images.astype(jnp.float32) / 255
        return images if view is None else jax.vmap(warp_image, (0, None))(images, view)

    def answer(params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
        logits, _ = apply(graphdef, params, stats, images, train=False)
        return jax.nn.log_softmax(logits)

    # Two programs, as in training: in one, XLA's CPU backend computes the warps several times over.
    looked = jax.pmap(look, AXIS, in_axes=(0, None), devices=list(devices))
    mapped = jax.pmap(answer, AXIS, in_axes=(None, None, 0), devices=list(devices))
    batch_size = batch_size or (CPU_BATCH if devices[0].platform == "cpu" else ACCELERATOR_BATCH)
    size = batch_size * len(devices)
    programs: dict[Any, Any] = {}

    def predict(params: Arrays, stats: Arrays, images: np.ndarray, view: Warp | None = None) -> np.ndarray:
        given = params, stats, view
        params, stats, view = given if is_replicated(given, devices) else replicate(given, devices)
        parts = []
        for start in range(0, max(len(images), 1), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            seen = looked(padded.reshape(len(devices), -1, *part.shape[1:]), view)
            if seen.shape not in programs:
                programs[seen.shape] = compile_optimized(mapped.lower(params, stats, seen), devices)
            parts.append(programs[seen.shape](params, stats, seen))
        # Nothing is read back before all is under way: the device never waits for the host.
        answers = [np.asarray(part).reshape(size, -1) for part in parts]
        return np.concatenate(answers)[: len(images)]

    return predict
