"""Layers that several families share: convolution, batch norm, pooling and the classifier head."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.conv import convolve

he_normal = nnx.initializers.he_normal()


class Conv(nnx.Module):
    """A square convolution without bias, (B, H, W, C) -> (B, H', W', D); initialised after He et al. 2015, section 2.2.

    If `padding` is VALID but the map is not larger than the kernel, the padding is SAME, so that models accept small
    images. Raises TypeError if the input is not floating point or has another number of channels.
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
            # Integer inputs would silently run the convolution in integer arithmetic (chance accuracy).
            raise TypeError(f"{x.dtype}{list(x.shape)}: give floats (B, H, W, {channels}), images in [0, 1]")
        dtype = self.dtype or x.dtype
        padding = self.padding if min(x.shape[1:3]) > self.kernel.shape[0] else "SAME"
        return convolve(x.astype(dtype), self.kernel[...].astype(dtype), stride=self.stride, padding=padding)


MOMENTUM = 0.95
"""Momentum of batch norm's running statistics: they follow within about 20 steps, as short trainings need."""


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation (Ioffe and Szegedy 2015) over all axes but the last, as one scale and offset per channel.

    flax.nnx.BatchNorm rounds statistics and parameters to `dtype` before it uses them; here everything but the result
    is at least float32. One multiplication and addition take fewer passes over the map than the four of flax.
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
        """Return mean (C,) and variance (C,) of the batch on all devices, and update the running statistics."""
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
    """Return a BatchNorm with this library's momentum; it averages over the devices of the axis `axis_name`, if any."""
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
        return relu(x) if self.relu else x


def head(num_features: int, num_classes: int, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> nnx.Linear:
    """Return the classifier head: features (B, F) -> logits (B, K). It computes in float32, as softmax needs it."""
    return nnx.Linear(num_features, num_classes, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)


class Classifier(nnx.Module):
    """The base of all families: images -> features -> logits. A family sets `num_features` and `head`."""

    num_features: int
    head: nnx.Linear

    @abstractmethod
    def features(self, images: jax.Array) -> jax.Array:
        """Return the features of images (B, H, W, C), (B, num_features)."""

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return the logits of images (B, H, W, C) float in [0, 1], (B, K) float32."""
        return self.head(self.features(images))

    def reset_head(self, num_classes: int, *, rngs: nnx.Rngs | None = None) -> None:
        """Replace the head by a new one for `num_classes` classes, as for transfer learning."""
        self.head = head(self.num_features, num_classes, rngs=rngs or nnx.Rngs(0))


def three_stages(block: Callable[..., nnx.Module], width: int, depth: int) -> nnx.List:
    """Return three stages of `depth` blocks, made by block(in_channels, channels, stride=...). The first stage has
    `width` channels; each further one halves the resolution and doubles the channels."""
    blocks, channels = [], width
    for stage in range(3):
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            blocks.append(block(channels, width * 2**stage, stride=stride))
            channels = width * 2**stage
    return nnx.List(blocks)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with the gradient 0 at 0.

    The gradient is computed from the result, unlike that of jax.nn.relu: XLA then computes batch norm and ReLU in one
    pass over the map and does not store its input.
    """
    return jnp.maximum(x, 0)


@relu.defjvp
def relu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    result = relu(*primals)
    return result, jnp.where(result > 0, tangents[0], 0)


def max_pool(x: jax.Array) -> jax.Array:
    """Max pooling over 3 x 3 windows with stride 1 and padding: (B, H, W, C) -> (B, H, W, C).

    Computed as shifted maxima, rows then columns: the gradient of reduce_window is slow, and not deterministic on GPUs.
    Computed in float32: on a CPU, maxima of bfloat16 take three times as long. Without the barrier, XLA computes the
    maxima of the rows several times.
    """
    exact = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    rows = jax.lax.optimization_barrier(max_of_neighbours(exact, axis=1))
    return max_of_neighbours(rows, axis=2).astype(x.dtype)


def max_of_neighbours(x: jax.Array, *, axis: int) -> jax.Array:
    """The maximum of every element, the one before and the one after it; the first and the last count twice."""
    size, part = x.shape[axis], partial(jax.lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
    after = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
    return jnp.maximum(jnp.maximum(before, x), after)
