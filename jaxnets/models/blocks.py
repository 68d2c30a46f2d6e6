"""Layers that several families share: convolution, convolution with batch norm, pooling, the head."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.conv import convolve

he_normal = nnx.initializers.he_normal()


class Conv(nnx.Module):
    """A square convolution without bias, (B, H, W, C) -> (B, H', W', D); weights after He et al. 2015, section 2.2.

    A valid convolution needs a map larger than its kernel: on smaller ones it pads, so that small images pass too.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: int = 3,
        *,
        stride: int = 1,
        padding: str = "SAME",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(he_normal(rngs.params(), (size, size, in_channels, channels), param_dtype))
        self.stride, self.padding, self.dtype = stride, padding, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        channels = self.kernel.shape[2]
        if x.ndim != 4 or x.shape[-1] != channels or not jnp.issubdtype(x.dtype, jnp.floating):
            # Whole numbers would be computed with in whole numbers, kernels too: chance level, without a word.
            raise TypeError(f"{x.dtype}{list(x.shape)}: give floats (B, H, W, {channels}), images in [0, 1]")
        dtype = self.dtype or x.dtype
        padding = self.padding if min(x.shape[1:3]) > self.kernel.shape[0] else "SAME"
        return convolve(x.astype(dtype), self.kernel[...].astype(dtype), stride=self.stride, padding=padding)


MOMENTUM = 0.95
"""Of batch norm's running statistics: they follow within about 20 steps, in short trainings too."""


class BatchNorm(nnx.BatchNorm):
    """Ioffe and Szegedy 2015, over all axes but the last, as one scale and one offset per channel.

    flax.nnx.BatchNorm rounds the running statistics and parameters to `dtype` before they are used; here everything
    but the result is at least float32. One multiplication and addition take fewer passes over the map than its four.
    """

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        assert self.scale is not None
        assert self.bias is not None
        exact = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
        mean, var = (self.mean[...], self.var[...]) if self.use_running_average else self.update_moments(exact)
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        offset = self.bias[...] - mean * scale
        scale, offset = (jnp.broadcast_to(vector.astype(exact.dtype), x.shape) for vector in (scale, offset))
        return (exact * scale + offset).astype(self.dtype or x.dtype)

    def update_moments(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """-> mean (C,), variance (C,) of the batch, on all devices; the running ones move towards them."""
        axes = tuple(range(x.ndim - 1))
        moments = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
        mean, square = moments if self.axis_name is None else jax.lax.pmean(moments, self.axis_name)
        var = jnp.maximum(square - mean * mean, 0)
        for running, value in ((self.mean, mean), (self.var, var)):
            new = self.momentum * running[...] + (1 - self.momentum) * value.astype(running.dtype)
            running[...] = jax.lax.stop_gradient(new)
        return mean, var


def batch_norm(
    channels: int, *, dtype: Any = None, param_dtype: Any = jnp.float32, axis_name: str | None = None, rngs: nnx.Rngs
) -> BatchNorm:
    return BatchNorm(channels, momentum=MOMENTUM, dtype=dtype, param_dtype=param_dtype, axis_name=axis_name, rngs=rngs)


class ConvNorm(nnx.Module):
    """Convolution, batch norm and, unless `relu` is False, ReLU: (B, H, W, C) -> (B, H', W', D)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: int = 3,
        *,
        stride: int = 1,
        padding: str = "SAME",
        relu: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ):
        common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv = Conv(in_channels, channels, size, stride=stride, padding=padding, **common)
        self.norm = batch_norm(channels, axis_name=axis_name, **common)
        self.relu = relu

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.conv(x))
        return nnx.relu(x) if self.relu else x


def head(num_features: int, num_classes: int, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> nnx.Linear:
    """features (B, F) -> logits (B, K) float32, whatever the precision of the features: softmax needs the bits."""
    return nnx.Linear(num_features, num_classes, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)


def max_pool(x: jax.Array) -> jax.Array:
    """The maximum over 3 x 3 windows at stride 1, padded: (B, H, W, C) -> the same.

    Shifted maxima, rows then columns: reduce_window's gradient is slow, and not deterministic on GPUs.
    """
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = x.shape[1:3]
    rows = reduce(jnp.maximum, [padded[:, i : i + height] for i in range(3)])
    return reduce(jnp.maximum, [rows[:, :, j : j + width] for j in range(3)])
