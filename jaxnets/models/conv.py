"""How a convolution, its input gradient and its weight gradient are computed: each by the strategy that was measured
to be fastest for its shapes, precision and platform.

| platform, precision | case | output | input gradient | weight gradient |
| --- | --- | --- | --- | --- |
| accelerator | all | xla | xla | xla |
| CPU, bfloat16 | stride 1 | xla | flipped | padded |
| CPU, bfloat16 | stride 2 | xla | columns | columns |
| CPU, other | 3 x 3, SAME, columns up to SMALL | columns | columns | columns |
| CPU, other | 5 x 5, SAME, columns up to SMALL / 2 | columns | columns | columns |
| CPU, other | otherwise, columns up to SMALL (5 x 5: twice) | xla | columns | columns |
| CPU, other | larger | xla | xla | padded if VALID, else xla |
| CPU, other | larger, output smaller than the kernel | xla | flipped | the same |
| all | 1 x 1 | matrix product | matrix product | matrix product |

On a CPU the output for a map smaller than the kernel is "padded", or "columns" if its gradients are (see `is_small`).
A strategy is linear in the input and in the kernel; its gradients are its transposes, unless the table names another
strategy. docs/PERFORMANCE.md has the measurements.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnets.devices import target_platform

SMALL = 2**16
"""Largest size of an image's columns in float32 bytes for which a CPU convolves by one matrix product; twice this size
if only the gradients do. With more, a batch of 64 needs over 32 MB of temporary memory, which glibc maps again at every
step: the ResNet's step took 36 ms instead of 16."""

Border = tuple[int, int]
"""Number of rows, and of columns, of zeros before and after the map."""
Strategy = Callable[[jax.Array, jax.Array, int, Border], jax.Array]
"""strategy(x (B, H, W, C), kernel (k, k, C, D), stride, border) -> (B, H', W', D)."""


def convolve(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """Convolve x (B, H, W, C) with kernel (k, k, C, D) -> (B, H', W', D). `padding` is "SAME" or "VALID"."""
    size = kernel.shape[0]
    if size == 1:  # its backward pass is three times as fast as a convolution's on two cores
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    # The number of zeros before the map depends neither on its size nor on the stride.
    border = ((size - 1) // 2, size // 2) if padding == "SAME" else (0, 0)
    plan = choose(target_platform(), x, kernel, stride, border)
    if set(plan) == {"xla"} or jax.typeof(x).manual_axis_type.varying:  # shard_map checks known primitives only
        return by_xla(x, kernel, stride, border)
    return convolution.bind(x, kernel, stride=stride, border=border, plan=plan)


class Plan(NamedTuple):
    """Names of the strategies of the output, of the input gradient and of the weight gradient."""

    output: str
    input_gradient: str
    weight_gradient: str


def choose(platform: str, x: Any, kernel: Any, stride: int, border: Border) -> Plan:
    """Return the row of the table above for arrays of these shapes."""
    size, _, channels, _ = kernel.shape
    if platform != "cpu":
        return Plan("xla", "xla", "xla")
    small = is_small(x, kernel)
    if x.dtype == jnp.bfloat16:
        output = "padded" if small else "xla"
        return Plan(output, "columns", "columns") if stride > 1 else Plan(output, "flipped", "padded")
    extents = [(extent + sum(border) - size) // stride + 1 for extent in x.shape[1:3]]
    width = 4 * math.prod(extents) * size * size * channels
    if width > (SMALL if size == 3 else 2 * SMALL):
        shrunk = stride == 1 and math.prod(extents) < size * size
        return Plan(
            output="padded" if small else "xla",
            input_gradient="flipped" if shrunk else "xla",
            weight_gradient="xla" if any(border) else "padded",
        )
    if small or (any(border) and width <= (SMALL if size == 3 else SMALL // 2)):
        return Plan("columns", "columns", "columns")
    return Plan("xla", "columns", "columns")


def by_xla(x: jax.Array, kernel: jax.Array, stride: int, border: Border) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border), dimension_numbers=numbers)


def by_padding(x: jax.Array, kernel: jax.Array, stride: int, border: Border) -> jax.Array:
    """XLA's valid convolution of a padded map in memory: its weight gradient is up to 1.6 times as fast."""
    return by_xla(jax.lax.optimization_barrier(pad(x, border)), kernel, stride, (0, 0))


def by_columns(x: jax.Array, kernel: jax.Array, stride: int, border: Border) -> jax.Array:
    """One matrix product of the windows of all output pixels with the kernel (im2col)."""
    return im2col(pad(x, border), kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[-1])


def pad(x: jax.Array, border: Border) -> jax.Array:
    return jnp.pad(x, ((0, 0), border, border, (0, 0)))


def im2col(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Return the window of a valid kernel at each output pixel: x (B, H, W, C) -> (B, H', W', size * size * C)."""
    rows, width = ((extent - size) // stride * stride + 1 for extent in x.shape[1:3])
    offsets = itertools.product(range(size), range(size))
    return jnp.concatenate([x[:, i : i + rows : stride, j : j + width : stride] for i, j in offsets], axis=-1)


def by_flipping(gradient: jax.Array, kernel: jax.Array, border: Border) -> jax.Array:
    """Return the input gradient at stride 1: the output gradient (B, H', W', D), convolved with the flipped, transposed
    kernel.

    Without the barrier XLA folds the flip into the convolution, which oneDNN does not support.
    """
    flipped = jax.lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    before, after = (kernel.shape[0] - 1 - zeros for zeros in border)
    strategy = by_padding if is_small(gradient, kernel) else by_xla
    return strategy(gradient, flipped, 1, (before, after))


def is_small(x: Any, kernel: Any) -> bool:
    """True if XLA would exchange x and the kernel, as the kernel covers more than the map without its border.

    Such a convolution ran at 9 instead of 500 GFLOP/s on two cores.
    """
    return math.prod(x.shape[1:3]) < math.prod(kernel.shape[:2])


FORWARD: dict[str, Strategy] = {"xla": by_xla, "padded": by_padding, "columns": by_columns}


def output(x: jax.Array, kernel: jax.Array, *, stride: int, border: Border, plan: Plan) -> jax.Array:
    return FORWARD[plan.output](x, kernel, stride, border)


def abstract_output(x: Any, kernel: Any, *, stride: int, border: Border, plan: Plan) -> jax.core.ShapedArray:
    result = jax.eval_shape(partial(by_xla, stride=stride, border=border), x, kernel)
    return jax.core.ShapedArray(result.shape, result.dtype)


def input_gradient(gradient: jax.Array, x: Any, kernel: jax.Array, *, stride: int, border: Border, plan: Plan) -> Any:
    if plan.input_gradient == "flipped":
        return by_flipping(gradient, kernel, border)
    strategy = FORWARD[plan.input_gradient]
    return jax.linear_transpose(lambda x: strategy(x, kernel, stride, border), x.aval)(gradient)[0]


def weight_gradient(gradient: jax.Array, x: jax.Array, kernel: Any, *, stride: int, border: Border, plan: Plan) -> Any:
    strategy = FORWARD[plan.weight_gradient]
    return jax.linear_transpose(lambda kernel: strategy(x, kernel, stride, border), kernel.aval)(gradient)[0]


def batch(arrays: Any, axes: Any, *, stride: int, border: Border, plan: Plan) -> tuple[jax.Array, int]:
    return jax.vmap(lambda x, kernel: by_xla(x, kernel, stride, border), axes)(*arrays), 0


# A primitive that is linear in each argument and has transposes of its own: unlike custom_vjp and custom_jvp it
# supports both modes of differentiation, vmap and higher derivatives.
convolution = Primitive("convolution")
convolution.def_impl(jax.jit(output, static_argnames=("stride", "border", "plan")))
convolution.def_abstract_eval(abstract_output)
ad.defbilinear(convolution, input_gradient, weight_gradient)
batching.primitive_batchers[convolution] = batch
mlir.register_lowering(convolution, mlir.lower_fun(output, multiple_results=False))
