import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.models import blocks

pytestmark = pytest.mark.usefixtures("strict_dtypes", "quick_compilation")


@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (1, 1, 2, 1)])
def test_max_pool_is_the_maximum_of_windows_of_three_by_three(shape, assert_same_in_float64):
    # Distinct and negative: there are no ties, and padding with zeros would be noticed.
    x = -1.0 - np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
    reference = lambda x: nnx.max_pool(x, (3, 3), strides=(1, 1), padding="SAME")
    assert_same_in_float64(blocks.max_pool, reference, x)


def test_relu_is_that_of_jax_with_its_gradient(assert_same_in_float64):
    assert_same_in_float64(blocks.relu, nnx.relu, np.array([-2.0, -0.0, 0.0, 1e-300, 3.0]))


def test_a_valid_convolution_pads_maps_no_larger_than_its_kernel():
    conv = blocks.Conv(1, 2, 3, padding="VALID", rngs=nnx.Rngs(0))
    assert conv(jnp.ones((1, 4, 5, 1))).shape == (1, 2, 3, 2)
    assert conv(jnp.ones((1, 3, 5, 1))).shape == (1, 3, 5, 2)


def test_a_convolution_computes_in_its_dtype():
    conv = blocks.Conv(1, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert (conv(jnp.ones((1, 4, 4, 1))).dtype, conv.kernel.dtype) == (jnp.bfloat16, jnp.float32)


def test_logits_are_float32_for_bfloat16_features():
    with jax.numpy_dtype_promotion("standard"):
        assert blocks.head(8, 3, rngs=nnx.Rngs(0))(jnp.ones((2, 8), jnp.bfloat16)).dtype == jnp.float32


def test_running_statistics_follow_within_twenty_steps():
    norm = blocks.ConvNorm(1, 2, rngs=nnx.Rngs(0)).norm
    for _ in range(20):
        norm(jnp.full((2, 4, 4, 2), 3.0))
    np.testing.assert_allclose(norm.mean[...], 3 * (1 - 0.95**20), rtol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_equals_flax(train, assert_same_in_float64):
    def normalise(kind):
        def call(x, scale, bias, mean, var):
            norm = kind(3, use_running_average=not train, momentum=0.95, rngs=nnx.Rngs(0))
            norm.scale, norm.bias = nnx.Param(scale), nnx.Param(bias)
            norm.mean, norm.var = nnx.BatchStat(mean), nnx.BatchStat(var)
            return jnp.concatenate([norm(x).ravel(), norm.mean[...], norm.var[...]])

        return call

    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(4, 5, 6, 3)), *rng.normal(size=(3, 3)), rng.uniform(0.5, 2, 3)
    with jax.numpy_dtype_promotion("standard"):
        assert_same_in_float64(normalise(blocks.BatchNorm), normalise(nnx.BatchNorm), *arrays)


def test_batch_norm_uses_float32_statistics_in_bfloat16():
    norm = blocks.BatchNorm(1, use_running_average=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    norm.mean[...] = jnp.full(1, 256.5)  # bfloat16 has 256 and 258
    assert norm(jnp.full((1, 1, 1, 1), 256, jnp.bfloat16)).item() == pytest.approx(-0.5, rel=2**-8)
