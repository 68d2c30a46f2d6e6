"""What two families share: a convolution, convolution with batch norm, squeeze-and-excitation, pooling, the head."""

import itertools
import math
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

he_normal = nnx.initializers.he_normal()


SMALL = 2**16
"""Bytes of columns an image, in float32, up to which a CPU convolves by one matrix product; twice as many where only
gradients do. With more, a batch of 64 needs over 32 MB of temporary memory: glibc maps that anew at every step, and a
ResNet's step took 36 ms instead of 16."""


def convolve(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """x (B, H, W, C), kernel (k, k, C, D) -> (B, H', W', D), for `padding` "SAME" or "VALID".

    XLA's convolution, but for what it does slowly: a 1 x 1 kernel, backwards three times slower on two cores than a
    matrix product, and small maps on a CPU. experiments/PERFORMANCE.md has the measurements.
    """
    size = kernel.shape[0]
    if size == 1:
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    # Rows and columns of zeros around the map; as many before it whether it is even or odd, whatever the stride.
    border = ((size - 1) // 2, size // 2) if padding == "SAME" else (0, 0)
    extents = [(extent + sum(border) - size) // stride + 1 for extent in x.shape[1:3]]
    width = 4 * math.prod(extents) * kernel[..., 0].size
    if jax.default_backend() != "cpu" or width > (SMALL if size == 3 else 2 * SMALL):
        return convolve_by_xla(x, kernel, stride, border)
    if padding == "SAME" and width <= (SMALL if size == 3 else SMALL // 2):
        return convolve_by_columns(x, kernel, stride, border)
    return convolve_by_both(x, kernel, stride, border)


def convolve_by_xla(x: jax.Array, kernel: jax.Array, stride: int, border: tuple[int, int]) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border), dimension_numbers=numbers)


def convolve_by_columns(x: jax.Array, kernel: jax.Array, stride: int, border: tuple[int, int]) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), border, border, (0, 0)))
    return columns(padded, kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def convolve_by_both(x: jax.Array, kernel: jax.Array, stride: int, border: tuple[int, int]) -> jax.Array:
    """XLA's convolution where only the answer is wanted, and columns where gradients are: the input's gradient of a
    valid 5 x 5 kernel on 8 x 8 x 32 takes XLA 21 ms a batch of 64 on two cores, and 2 as columns; forwards it is the
    quicker one, and for valid 3 x 3 kernels too (deep_cnn answers 128 images in 5 ms instead of 7 to 10). A rule for
    tangents, not for cotangents, leaves both modes of differentiation open."""
    return convolve_by_xla(x, kernel, stride, border)


@convolve_by_both.defjvp
def convolve_by_both_jvp(stride: int, border: tuple[int, int], primals: Any, tangents: Any) -> Any:
    return jax.jvp(lambda x, kernel: convolve_by_columns(x, kernel, stride, border), primals, tangents)


def columns(x: jax.Array, size: int, stride: int) -> jax.Array:
    """x (B, H, W, C) -> (B, H', W', size * size * C): beside each other what each place of a valid kernel sees."""
    rows, width = ((extent - size) // stride * stride + 1 for extent in x.shape[1:3])
    places = itertools.product(range(size), range(size))
    return jnp.concatenate([x[:, i : i + rows : stride, j : j + width : stride] for i, j in places], axis=-1)


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


def batch_norm(
    channels: int, *, dtype: Any = None, param_dtype: Any = jnp.float32, axis_name: str | None = None, rngs: nnx.Rngs
) -> nnx.BatchNorm:
    """Ioffe and Szegedy 2015."""
    return nnx.BatchNorm(
        channels, momentum=MOMENTUM, dtype=dtype, param_dtype=param_dtype, axis_name=axis_name, rngs=rngs
    )


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
