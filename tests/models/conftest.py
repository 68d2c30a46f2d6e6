import jax
import numpy as np
import pytest


@pytest.fixture
def assert_same_in_float64():
    """assert_same(function, reference, *arguments): equal outputs and equal gradients."""

    def values_and_gradients(function, arguments, cotangent):
        def run(*arguments):
            values, pull = jax.vjp(function, *arguments)
            return values, *pull(cotangent)

        return jax.jit(run)(*arguments)

    def assert_same(function, reference, *arguments):
        with jax.enable_x64(True):
            shape = jax.eval_shape(reference, *arguments).shape
            cotangent = np.random.default_rng(1).normal(size=shape)
            actual, desired = (values_and_gradients(call, arguments, cotangent) for call in (function, reference))
        for ours, theirs in zip(actual, desired, strict=True):
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)

    return assert_same
