import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.inference.ensemble import accuracy, combine, fit_weights, nll

PROBS = np.array([[[0.5, 0.25, 0.25]], [[0.1, 0.75, 0.15]]])


def draw(seed, shape):
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1]))


@pytest.mark.parametrize(
    ("weights", "mean"),
    [
        (None, [0.3, 0.5, 0.2]),
        ([0.5, 0.5], [0.3, 0.5, 0.2]),
        ([0.75, 0.25], [0.4, 0.375, 0.225]),
        ([0, 1], PROBS[1, 0]),
    ],
)
def test_probabilities_are_averaged(weights, mean):
    combined = combine(np.log(PROBS), None if weights is None else np.array(weights))
    np.testing.assert_allclose(np.exp(combined), [mean], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_member_is_unchanged(dtype):
    log_probs = draw(0, (1, 5, 10)).astype(dtype)
    np.testing.assert_allclose(combine(log_probs), log_probs[0], rtol=1e-6)


def test_probabilities_of_zero_are_averaged():
    log_probs = np.array([[[0, -np.inf, -np.inf]], [[np.log(0.5), np.log(0.5), -np.inf]]])
    np.testing.assert_allclose(np.exp(combine(log_probs)), [[0.75, 0.25, 0]])
    np.testing.assert_allclose(np.exp(combine(log_probs, np.array([0.0, 1.0]))), [[0.5, 0.5, 0]])


def test_very_unlikely_classes_do_not_underflow():
    np.testing.assert_allclose(combine(np.array([[[-2000.0]], [[-2000.0]]])), [[-2000.0]])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.integers(2, 10))
def test_a_mean_lies_between_its_members(seed, members, rows, classes):
    log_probs = draw(seed, (members, rows, classes))
    combined = combine(log_probs)
    np.testing.assert_allclose(np.exp(combined).sum(axis=1), 1, rtol=1e-9)
    assert (combined <= log_probs.max(axis=0) + 1e-9).all()
    assert (combined >= log_probs.min(axis=0) - 1e-9).all()
    np.testing.assert_allclose(combine(log_probs[::-1]), combined, rtol=1e-9, atol=1e-12)


def test_accuracy_and_nll_of_a_known_example():
    log_probs, labels = np.log([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]), np.array([0, 1])
    assert accuracy(log_probs, labels) == 0.5
    np.testing.assert_allclose(nll(log_probs, labels), -np.log(0.5 * 0.25) / 2)


def test_weights_prefer_the_better_member():
    labels = np.random.default_rng(0).integers(0, 3, 60)
    noise = draw(1, (60, 3))
    good = np.log(0.8 * np.eye(3)[labels] + 0.2 / 3)
    weights = fit_weights(np.stack([noise, good, noise]).astype(np.float32), labels)
    assert weights.argmax() == 1
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1)
    log_probs = np.stack([noise, good, noise])
    assert nll(combine(log_probs, weights), labels) < nll(combine(log_probs), labels)


def test_equal_members_get_equal_weights():
    log_probs = np.repeat(draw(2, (1, 20, 4)), 3, axis=0)
    np.testing.assert_allclose(fit_weights(log_probs, np.arange(20) % 4), 1 / 3, rtol=1e-6)
