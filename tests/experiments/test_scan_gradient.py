import jax.numpy as jnp
import numpy as np

from experiments.studies import scan_gradient


def test_both_ways_are_the_same_work():
    kernel = 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=scan_gradient.kernel.shape), jnp.float32)
    stepped, scanned = scan_gradient.stepwise(kernel), scan_gradient.scanned(kernel)
    np.testing.assert_allclose(stepped, scanned, atol=1e-5)
    assert jnp.abs(stepped - kernel).max() > 1e-3
