import jax.numpy as jnp
import numpy as np

from experiments.studies import scan_gradient


def test_loop_and_scan_give_the_same_result():
    kernel = 0.1 * jnp.asarray(np.random.default_rng(0).normal(size=scan_gradient.kernel.shape), jnp.float32)
    stepped, scanned = scan_gradient.train_in_loop(kernel), scan_gradient.train_in_scan(kernel)
    np.testing.assert_allclose(stepped, scanned, atol=1e-5)
    assert jnp.abs(stepped - kernel).max() > 1e-3
