import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.models import blocks

pytestmark = pytest.mark.usefixtures("strict_dtypes", "quick_compilation")


def values_and_gradients(function, arguments, cotangent):
    def run(*arguments):
        values, pull = jax.vjp(function, *arguments)
        return values, *pull(cotangent)

    return jax.jit(run)(*arguments)


def assert_same_in_float64(function, reference, *arguments):
    with jax.enable_x64(True):
        shape = jax.eval_shape(reference, *arguments).shape
        cotangent = np.random.default_rng(1).normal(size=shape)
        actual, desired = (values_and_gradients(call, arguments, cotangent) for call in (function, reference))
    for ours, theirs in zip(actual, desired, strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("small", [0, 4000, 2**30])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolve_is_a_convolution(size, stride, padding, small, monkeypatch):
    monkeypatch.setattr(blocks, "SMALL", small)
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 8, 3)), rng.normal(size=(size, size, 3, 4))
    # Given in numbers: XLA's own "SAME" pads an even map on one side only at stride 2.
    border = ((size - 1) // 2, size // 2) if padding == "SAME" else (0, 0)
    reference = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (border, border), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = lambda x, kernel: blocks.convolve(x, kernel, stride=stride, padding=padding)
    assert_same_in_float64(ours, reference, x, kernel)


WIDTHS = {3: 4 * 7 * 8 * 27, 5: 4 * 7 * 8 * 75}
"""Bytes of columns of an image of (7, 8, 3) under each kernel."""


@pytest.mark.parametrize(
    ("size", "share", "forward", "backward"),
    [
        (3, 0.9, "xla", "xla"),
        (3, 1, "columns", "columns"),
        (5, 0.4, "xla", "xla"),
        (5, 1, "xla", "columns"),
        (5, 2, "columns", "columns"),
    ],
)
def test_convolve_takes_columns_where_they_fit(size, share, forward, backward, monkeypatch):
    monkeypatch.setattr(blocks, "SMALL", share * WIDTHS[size])
    convolve = lambda *arguments: blocks.convolve(*arguments)  # new to JAX, which would recall the last trace
    arguments = jnp.ones((2, 7, 8, 3)), jnp.ones((size, size, 3, 4))
    answer = str(jax.make_jaxpr(convolve)(*arguments))
    slopes = str(jax.make_jaxpr(jax.grad(lambda *arguments: convolve(*arguments).sum(), argnums=(0, 1)))(*arguments))
    assert ("conv_general_dilated" in answer) == (forward == "xla")
    assert ("conv_general_dilated" in slopes) == (backward == "xla")


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
def test_both_modes_differentiate_what_is_convolved_by_both(differentiate):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 3, 4, 2), (5, 5, 2, 2)))
    slopes = differentiate(lambda kernel: blocks.convolve_by_both(x, kernel, 1, (2, 2)))(kernel)
    reference = differentiate(lambda kernel: blocks.convolve_by_xla(x, kernel, 1, (2, 2)))(kernel)
    np.testing.assert_allclose(slopes, reference, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (1, 1, 2, 1)])
def test_max_pool_is_the_maximum_of_three_by_three(shape):
    # All different and below zero: no ties, and padding with zeros would show.
    x = -1.0 - np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
    reference = lambda x: nnx.max_pool(x, (3, 3), strides=(1, 1), padding="SAME")
    assert_same_in_float64(blocks.max_pool, reference, x)


def test_a_valid_convolution_pads_maps_no_larger_than_its_kernel():
    conv = blocks.Conv(1, 2, 3, padding="VALID", rngs=nnx.Rngs(0))
    assert conv(jnp.ones((1, 4, 5, 1))).shape == (1, 2, 3, 2)
    assert conv(jnp.ones((1, 3, 5, 1))).shape == (1, 3, 5, 2)


def test_a_convolution_computes_in_its_own_precision():
    conv = blocks.Conv(1, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert (conv(jnp.ones((1, 4, 4, 1))).dtype, conv.kernel.dtype) == (jnp.bfloat16, jnp.float32)


def test_logits_are_float32_whatever_the_features():
    with jax.numpy_dtype_promotion("standard"):
        assert blocks.head(8, 3, rngs=nnx.Rngs(0))(jnp.ones((2, 8), jnp.bfloat16)).dtype == jnp.float32


def test_batch_norm_follows_within_twenty_steps():
    norm = blocks.ConvNorm(1, 2, rngs=nnx.Rngs(0)).norm
    for _ in range(20):
        norm(jnp.full((2, 4, 4, 2), 3.0))
    np.testing.assert_allclose(norm.mean[...], 3 * (1 - 0.95**20), rtol=1e-5)
