import jax
import numpy as np
import optax
import pytest

from scratch.mlp import init_params
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


@pytest.mark.parametrize("warmup", [0, 1, 30])
def test_the_learning_rate_rises_linearly_to_its_peak_and_falls_to_nearly_zero(warmup):
    found = rates(peak=0.5, steps=200, warmup=warmup)
    assert found[warmup] == max(found) == 0.5
    np.testing.assert_allclose(found[: warmup + 1], np.arange(1, warmup + 2) / (warmup + 1) * 0.5)
    assert (np.diff(found[warmup:]) < 0).all()
    assert 0 < found[-1] < 1e-3 * 0.5
    np.testing.assert_allclose(found[warmup + (200 - warmup) // 2], 0.25, atol=0.01)


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


def test_two_steps_by_hand():
    params, velocity = [(np.array([[1.0]]), np.array([1.0]))], [(np.zeros((1, 1)), np.zeros(1))]
    step = lambda nesterov: sgd_update(
        params, velocity, [(np.array([[2.0]]), np.array([2.0]))], learning_rate=0.5, momentum=0.5, nesterov=nesterov
    )
    step(nesterov=False)
    assert (params[0][0].item(), params[0][1].item()) == (1 - 0.5 * 2, 1 - 0.5 * 2)
    step(nesterov=True)
    assert velocity[0][0].item() == velocity[0][1].item() == 0.5 * 2 + 2
    assert params[0][0].item() == params[0][1].item() == 0 - 0.5 * (2 + 0.5 * 3)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weight_decay_applies_to_weights_only(momentum):
    params = make_layers()
    before = [(w.copy(), b.copy()) for w, b in params]
    sgd_update(params, zeros_like(params), zeros_like(params), learning_rate=0.1, momentum=momentum, weight_decay=0.5)
    for (w, b), (old_w, old_b) in zip(params, before, strict=True):
        np.testing.assert_allclose(w, 0.95 * old_w)
        np.testing.assert_array_equal(b, old_b)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}])
def test_a_quadratic_is_minimised(options):
    params, targets = make_layers(), [(w + 1, b - 2) for w, b in make_layers()]
    velocity = zeros_like(params)
    for _ in range(300):
        grads = [(w - to_w, 3 * (b - to_b)) for (w, b), (to_w, to_b) in zip(params, targets, strict=True)]
        sgd_update(params, velocity, grads, learning_rate=0.1, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, targets)


def test_the_velocity_starts_at_zero():
    params = init_params(np.random.default_rng(0), (4, 3, 2))
    velocity = zeros_like(params)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), velocity) == jax.tree.map(lambda a: (a.shape, a.dtype), params)
    assert not any(array.any() for array in jax.tree.leaves(velocity))
