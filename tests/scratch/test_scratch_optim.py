import jax
import numpy as np
import optax
import pytest

from scratch.optim import cosine_rate, sgd_update, zeros_like


def rates(**schedule):
    return [cosine_rate(step, **schedule) for step in range(schedule["steps"])]


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (50, 0), (50, 1), (50, 10), (7, 6)])
def test_the_cosine_is_that_of_optax(steps, warmup):
    warmup_schedule = optax.linear_schedule(0.3 / (warmup + 1), 0.3, max(warmup, 1))
    decay = optax.cosine_decay_schedule(0.3, steps - warmup)
    with jax.enable_x64(True):
        expected = optax.join_schedules([warmup_schedule, decay], [warmup])(np.arange(steps, dtype=np.float64))
    np.testing.assert_allclose(rates(peak=0.3, steps=steps, warmup=warmup), expected, rtol=1e-6)


def make_layers(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=shape).astype(dtype), rng.normal(size=shape[1]).astype(dtype)) for shape in [(3, 4), (4, 2)]
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [False, True])
def test_an_update_is_in_place(nesterov, dtype):
    params, velocity, grads = make_layers(dtype), zeros_like(make_layers(dtype)), make_layers(dtype)
    arrays = jax.tree.leaves((params, velocity))
    before = [array.copy() for array in arrays]
    sgd_update(params, velocity, grads, learning_rate=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    assert all(now is old for now, old in zip(jax.tree.leaves((params, velocity)), arrays, strict=True))
    assert all((now != old).all() for now, old in zip(arrays, before, strict=True))
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
