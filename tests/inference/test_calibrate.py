import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from jaxnets.inference.calibrate import (
    apply_temperature,
    calibration_error,
    confidence_threshold,
    fit_temperature,
)
from jaxnets.inference.ensemble import nll


def sample(temperature, *, rows=20_000, classes=5):
    """Log-probabilities, and labels drawn from these probabilities at `temperature`."""
    rng = np.random.default_rng(0)
    log_probs = log_softmax(3 * rng.normal(size=(rows, classes)), axis=1)
    gumbel = rng.gumbel(size=log_probs.shape)
    return log_probs, (log_probs / temperature + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    log_probs, labels = sample(temperature)
    np.testing.assert_allclose(fit_temperature(log_probs, labels), temperature, rtol=0.05)
    np.testing.assert_allclose(fit_temperature(log_probs.astype(np.float32), labels), temperature, rtol=0.05)


def test_calibration_lowers_nll_and_calibration_error():
    log_probs, labels = sample(3.0)
    calibrated = apply_temperature(log_probs, fit_temperature(log_probs, labels))
    assert nll(calibrated, labels) < nll(log_probs, labels)
    assert calibration_error(calibrated, labels) < 0.02 < calibration_error(log_probs, labels)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_a_temperature_keeps_the_order_and_the_sum(seed, temperature):
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(4, 6)), axis=1)
    changed = apply_temperature(log_probs, temperature)
    np.testing.assert_array_equal(changed.argsort(axis=1), log_probs.argsort(axis=1))
    np.testing.assert_allclose(np.exp(changed).sum(axis=1), 1)
    np.testing.assert_allclose(apply_temperature(log_probs, 1.0), log_probs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("confidences", "correct", "bins", "error"),
    [
        ([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0], 15, 0.0),
        ([0.95, 0.95], [1, 0], 10, 0.45),
        ([0.95, 0.95, 0.65, 0.65], [1, 1, 0, 0], 10, (2 * 0.05 + 2 * 0.65) / 4),
        ([0.95, 0.65], [0, 1], 1, 0.3),  # in one bin the gaps, 0.95 and -0.35, cancel in part: 0.6 / 2
        ([1.0, 1.0], [1, 1], 15, 0.0),
    ],
)
def test_calibration_error_by_hand(confidences, correct, bins, error):
    probs = np.stack([confidences, 1 - np.array(confidences)], axis=1)
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)
    labels = 1 - np.array(correct)
    np.testing.assert_allclose(calibration_error(log_probs, labels, bins=bins), error, atol=1e-12)


@pytest.mark.parametrize(("accuracy", "expected"), [(1.0, 0.9), (0.75, 0.7), (0.6, 0.6), (0.5, 0.6)])
def test_the_confidence_threshold_by_hand(accuracy, expected):
    confidence, correct = np.array([0.6, 0.95, 0.8, 0.9, 0.7]), np.array([0, 1, 0, 1, 1])
    log_probs = np.log(np.stack([confidence, 1 - confidence], axis=1))
    np.testing.assert_allclose(confidence_threshold(log_probs, 1 - correct, accuracy=accuracy), expected)


def test_the_confidence_threshold_is_one_if_the_most_confident_prediction_is_wrong():
    assert confidence_threshold(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([1, 0]), accuracy=0.9) == 1
