import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scratch.gradcheck import numerical_gradient
from scratch.layers import (
    ACTIVATIONS,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from scratch.losses import LOSSES, log_softmax, quadratic, softmax_cross_entropy
from scratch.mlp import forward, init_params, loss_and_grads
from scratch.optim import sgd_update, zeros_like

pytestmark = pytest.mark.usefixtures("quick_compilation")
# With arbitrary shapes the reference would be compiled again for every example.
SHAPES = list(itertools.product([(5, 3), (4, 6, 3), (4, 5, 3, 2), (3, 6, 2, 5, 4)], [1, 4]))
EVERY_NETWORK = [(activation, loss) for activation in ACTIVATIONS for loss in LOSSES]
JAX_ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
JAX_LOSSES = {
    "cross_entropy": lambda logits, y: optax.softmax_cross_entropy(logits, y).mean(),
    "quadratic": lambda logits, y: 0.5 * jnp.sum((jax.nn.sigmoid(logits) - y) ** 2, axis=1).mean(),
}


def reference(activation, loss):
    def value(params, x, y):
        for w, b in params[:-1]:
            x = JAX_ACTIVATIONS[activation](x @ w + b[None])
        return JAX_LOSSES[loss](x @ params[-1][0] + params[-1][1][None], y)

    return jax.jit(jax.value_and_grad(value))


REFERENCES = {network: reference(*network) for network in EVERY_NETWORK}


def reference_optimizer(*, learning_rate, momentum, weight_decay, nesterov):
    weights_only = lambda params: [(True, False)] * len(params)
    decay = optax.add_decayed_weights(weight_decay, weights_only)
    return optax.chain(decay, optax.sgd(learning_rate, momentum, nesterov=nesterov))


@jax.jit(static_argnames="nesterov")
def reference_update(params, state, grads, **options):
    updates, state = reference_optimizer(**options).update(grads, state, params)
    return optax.apply_updates(params, updates), state


@st.composite
def problems(draw):
    """params, x, targets. Multiples of 1/8 are added and multiplied without rounding, so ReLU gets exact zeros."""
    widths, count = draw(st.sampled_from(SHAPES))
    eighths = lambda *shape: draw(arrays(np.int8, shape, elements=st.integers(-16, 16))) / 8
    params = [(eighths(*shape), eighths(shape[1])) for shape in itertools.pairwise(widths)]
    x = eighths(count, widths[0]) * draw(st.sampled_from([0.125, 1.0, 64.0]))
    labels = draw(arrays(np.int8, count, elements=st.integers(0, widths[-1] - 1)))
    soft = draw(arrays(np.int8, (count, widths[-1]), elements=st.integers(1, 9)))
    softness = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return params, x, (1 - softness) * np.eye(widths[-1])[labels] + softness * soft / soft.sum(axis=1, keepdims=True)


def assert_same(found, expected, scale):
    """Equal to a relative 1e-10, or to rounding errors of `scale` for tiny values such as a saturated unit's slope."""
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13 * scale)


def assert_trees_same(found, expected, scale):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: assert_same(a, b, scale), found, expected)


@pytest.mark.parametrize(("activation", "loss"), EVERY_NETWORK)
@settings(deadline=None, max_examples=60, derandomize=True, print_blob=False)
@given(
    problem=problems(),
    learning_rate=st.floats(0.001, 0.25),
    momentum=st.one_of(st.just(0.0), st.floats(0.1, 0.99)),
    weight_decay=st.sampled_from([0.0, 0.001, 0.5]),
    nesterov=st.booleans(),
)
def test_loss_gradients_and_two_updates_equal_jax_and_optax(
    activation, loss, problem, learning_rate, momentum, weight_decay, nesterov
):
    params, x, targets = problem
    options = {"learning_rate": learning_rate, "momentum": momentum}
    options |= {"weight_decay": weight_decay, "nesterov": nesterov}
    velocity, expected = zeros_like(params), jax.tree.map(np.copy, params)
    with jax.enable_x64(True):
        state = reference_optimizer(**options).init(expected)
        for _ in range(2):
            value, grads = loss_and_grads(params, x, targets, activation=activation, loss=loss)
            expected_value, expected_grads = REFERENCES[activation, loss](expected, x, targets)
            scale = largest(x, expected, expected_grads, [expected_value])
            assert_same(value, expected_value, scale)
            assert_trees_same(grads, expected_grads, scale)
            sgd_update(params, velocity, grads, **options)
            expected, state = reference_update(expected, state, expected_grads, **options)
            assert_trees_same(params, expected, scale)


def largest(*trees):
    return max(1.0, *(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(trees)))


def drawn_problem(widths, *, count=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = [
        (rng.normal(0, 0.7, shape).astype(dtype), rng.normal(0, 0.7, shape[1]).astype(dtype))
        for shape in itertools.pairwise(widths)
    ]
    targets = rng.dirichlet(np.ones(widths[-1]), count)
    return params, rng.normal(0, 1, (count, widths[0])).astype(dtype), targets.astype(dtype)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 4, 3, 2), (2, 3, 4, 3, 2)])
@pytest.mark.parametrize(("activation", "loss"), EVERY_NETWORK)
def test_gradients_equal_finite_differences(activation, loss, widths):
    params, x, targets = drawn_problem(widths)
    value = lambda: loss_and_grads(params, x, targets, activation=activation, loss=loss)[0]
    _, grads = loss_and_grads(params, x, targets, activation=activation, loss=loss)
    _, caches = forward(params, x, activation="relu")
    kinks = [np.abs(inputs @ w + b).min() for ((inputs, w), _), (_, b) in zip(caches[:-1], params[:-1], strict=True)]
    assert activation != "relu" or all(distance > 1e-3 for distance in kinks)
    for pair, grads_pair in zip(params, grads, strict=True):
        for array, grad in zip(pair, grads_pair, strict=True):
            assert_close(grad, numerical_gradient(value, array))


def test_finite_differences_restore_their_argument():
    x = np.array([[0.1, -3.0], [2.5, 7.0]])
    original = x.copy()
    np.testing.assert_allclose(numerical_gradient(lambda: (x**3).sum(), x), 3 * original**2, rtol=1e-6)
    np.testing.assert_array_equal(x, original)


@pytest.fixture
def no_warnings():
    """Floating-point errors raise, except an underflow to zero."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@both_dtypes
@pytest.mark.usefixtures("no_warnings")
def test_far_from_zero_sigmoid_and_tanh_are_flat(dtype):
    z = np.array([-1e4, -700, -90, 0, 90, 700, 1e4], dtype)
    expected = np.array([0, np.exp(-700), np.exp(-90), 0.5, 1, 1, 1])
    a, cache = sigmoid_forward(z)
    assert a.dtype == dtype
    np.testing.assert_allclose(a, expected.astype(dtype), rtol=1e-6)
    slope = sigmoid_backward(np.ones_like(z), cache)
    np.testing.assert_allclose(slope, (expected * (1 - expected)).astype(dtype), rtol=1e-6)
    a, cache = tanh_forward(z)
    np.testing.assert_array_equal(a, np.sign(z))
    np.testing.assert_array_equal(tanh_backward(np.ones_like(z), cache), z == 0)


@both_dtypes
def test_relu_is_zero_at_zero_and_below(dtype):
    tiny = np.finfo(dtype).tiny
    z = np.array([-1e30, -tiny, -0.0, 0.0, tiny, 1e30], dtype)
    a, cache = relu_forward(z)
    np.testing.assert_array_equal(a, np.array([0, 0, 0, 0, tiny, 1e30], dtype))
    np.testing.assert_array_equal(relu_backward(np.full_like(z, 3), cache), [0, 0, 0, 0, 3, 3])
    assert a.dtype == dtype


@both_dtypes
@pytest.mark.parametrize("height", [0, 700, -1e4, 1e4])
@pytest.mark.usefixtures("no_warnings")
def test_equal_logits_are_equal_probabilities_at_any_offset(dtype, height):
    logits, targets = np.full((2, 4), height, dtype), np.eye(4, dtype=dtype)[[0, 3]]
    value, dlogits = softmax_cross_entropy(logits, targets)
    np.testing.assert_allclose(value, np.log(4), rtol=1e-6)
    np.testing.assert_allclose(dlogits, (0.25 - targets) / 2, rtol=1e-6)
    np.testing.assert_allclose(log_softmax(logits), -np.log(4), rtol=1e-6)


@both_dtypes
@pytest.mark.usefixtures("no_warnings")
def test_cross_entropy_of_confident_predictions(dtype):
    logits = np.array([[1e4, -1e4, 0]], dtype)
    np.testing.assert_array_equal(log_softmax(logits), [[0, -2e4, -1e4]])
    for label, expected, slope in [(0, 0, [0, 0, 0]), (1, 2e4, [1, -1, 0]), (2, 1e4, [1, 0, -1])]:
        value, dlogits = softmax_cross_entropy(logits, np.eye(3, dtype=dtype)[[label]])
        assert value == expected
        np.testing.assert_array_equal(dlogits, [slope])
    value, _ = softmax_cross_entropy(logits, np.full((1, 3), 0.25, dtype) + np.array([0.25, 0, 0], dtype))
    assert value == 0.25 * 3e4


@both_dtypes
@pytest.mark.usefixtures("no_warnings")
def test_quadratic_loss_of_confident_predictions(dtype):
    logits, targets = np.array([[1e4, -1e4, -1e4], [-1e4, 1e4, 0]], dtype), np.eye(3, dtype=dtype)[[0, 0]]
    value, dlogits = quadratic(logits, targets)
    assert value == (0 + 1 + 1 + 0.25) / 4
    np.testing.assert_array_equal(dlogits, [[0, 0, 0], [0, 0, 0.5 * 0.25 / 2]])


@both_dtypes
@pytest.mark.parametrize(("activation", "loss"), EVERY_NETWORK)
def test_dtypes_follow_the_inputs(activation, loss, dtype):
    params, x, targets = drawn_problem((5, 4, 4, 3), dtype=dtype)
    value, grads = loss_and_grads(params, x, targets, activation=activation, loss=loss)
    logits, _ = forward(params, x, activation=activation)
    assert {a.dtype for a in (value, logits, *jax.tree.leaves(grads))} == {np.dtype(dtype)}
    assert [(dw.shape, db.shape) for dw, db in grads] == [(w.shape, b.shape) for w, b in params]


@pytest.mark.parametrize(("activation", "loss"), EVERY_NETWORK)
def test_a_saturated_network_stays_finite(activation, loss, no_warnings):
    params = init_params(np.random.default_rng(0), (5, 8, 8, 3), std=100.0)
    x, targets = np.full((4, 5), 50, np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    value, grads = loss_and_grads(params, x, targets, activation=activation, loss=loss)
    assert all(np.isfinite(array).all() for array in (value, *jax.tree.leaves(grads)))


@pytest.mark.parametrize(("activation", "loss"), EVERY_NETWORK)
def test_inputs_parameters_and_targets_are_not_changed(activation, loss):
    params, x, targets = drawn_problem((4, 5, 3))
    for array in (x, targets, *jax.tree.leaves(params)):
        array.flags.writeable = False
    loss_and_grads(params, x, targets, activation=activation, loss=loss)
