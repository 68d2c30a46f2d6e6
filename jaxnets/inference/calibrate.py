"""One temperature, fitted on validation rows: Guo et al., "On Calibration of Modern Neural Networks", 2017, section
4.2."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from jaxnets.inference.ensemble import nll


def apply_temperature(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """log_probs (..., K) -> the same, softened by a temperature above 1, sharpened by one below."""
    return log_softmax(log_probs / temperature, axis=-1)


def fit_temperature(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """log_probs (N, K) of validation rows, labels (N,) -> the temperature, from 0.05 to 20, with the least NLL."""
    loss = lambda log_t: nll(apply_temperature(log_probs.astype(np.float64), np.exp(log_t)), labels)
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def calibration_error(log_probs: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """log_probs (N, K), labels (N,) -> expected calibration error: the mean gap between confidence and accuracy, over
    equal bins of confidence (the paper's equation 3)."""
    confidence = np.exp(log_probs.max(axis=-1))
    right = log_probs.argmax(axis=-1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(places, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
