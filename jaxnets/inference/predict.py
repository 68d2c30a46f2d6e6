"""Batched inference on all devices: images -> log-probabilities. The last batch is padded, so no image is dropped."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.augment import Warp, warp_image
from jaxnets.compilation import compile_optimized
from jaxnets.devices import AXIS, Devices, is_replicated, replicate
from jaxnets.errors import DivergedError
from jaxnets.models.functional import Arrays, apply

CPU_BATCH, ACCELERATOR_BATCH = 128, 1024
"""Images per device and call; the last bits of predictions depend on it. On two cores 512 took twice as long as 128."""


class Predict(Protocol):
    """Predicts images (N, H, W, C) uint8 with a model's arrays -> log_probs (N, K) float32.

    `view` is a warp that is applied to every image before the model; None leaves the images as they are. Arrays that
    `replicate` has placed on the devices are not copied again.
    """

    def __call__(
        self, params: Arrays, stats: Arrays, images: np.ndarray, view: Warp | None = None, /
    ) -> np.ndarray: ...


def require_finite(log_probs: np.ndarray, source: str) -> np.ndarray:
    """Return log_probs (..., N, K). Raises DivergedError, which names their `source`, if a value is not finite."""
    if not np.isfinite(log_probs).all():
        raise DivergedError(f"{source}: not all predictions are finite")
    return log_probs


def map_predict(graphdef: nnx.GraphDef, devices: Devices) -> tuple[Any, Any]:
    """Return the two halves of a prediction as functions that are mapped over the devices:

    prepare(images (D, B, H, W, C) uint8, view) -> the same in float32, warped.
    forward(params, stats, images) -> log_probs (D, B, K).
    """

    def prepare(images: jax.Array, view: Warp | None) -> jax.Array:
        images = images.astype(jnp.float32) / 255
        return images if view is None else jax.vmap(warp_image, (0, None))(images, view)

    def forward(params: Arrays, stats: Arrays, images: jax.Array) -> jax.Array:
        logits, _ = apply(graphdef, params, stats, images, train=False)
        return jax.nn.log_softmax(logits)

    # Two programs, as in training: in one, XLA's CPU backend computes the warps several times.
    prepare_batch = jax.pmap(prepare, AXIS, in_axes=(0, None), devices=list(devices))
    return prepare_batch, jax.pmap(forward, AXIS, in_axes=(None, None, 0), devices=list(devices))


def make_predict(graphdef: nnx.GraphDef, devices: Devices, *, batch_size: int | None = None) -> Predict:
    """Return the prediction function of a model. `batch_size` is per device and call; by default it suits the platform.

    It is compiled at its first call for each shape of images.
    """
    prepare_batch, forward_batch = map_predict(graphdef, devices)
    batch_size = batch_size or (CPU_BATCH if devices[0].platform == "cpu" else ACCELERATOR_BATCH)
    size = batch_size * len(devices)
    programs: dict[Any, Any] = {}

    def predict(params: Arrays, stats: Arrays, images: np.ndarray, view: Warp | None = None) -> np.ndarray:
        if not is_replicated((params, stats, view), devices):
            params, stats, view = replicate((params, stats, view), devices)
        outputs = []
        for start in range(0, max(len(images), 1), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            batch = prepare_batch(padded.reshape(len(devices), -1, *part.shape[1:]), view)
            if batch.shape not in programs:
                programs[batch.shape] = compile_optimized(forward_batch.lower(params, stats, batch), devices)
            outputs.append(programs[batch.shape](params, stats, batch))
        # Results are copied to the host after all calls are queued, so the device never waits for the host.
        log_probs = [np.asarray(output).reshape(size, -1) for output in outputs]
        return np.concatenate(log_probs)[: len(images)]

    return predict
