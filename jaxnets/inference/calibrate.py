"""Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from jaxnets.inference.ensemble import nll


def apply_temperature(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Soften predictions by a temperature above 1, or sharpen them by one below. log_probs (..., K) -> (..., K)."""
    return log_softmax(log_probs / temperature, axis=-1)


def fit_temperature(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature from 0.05 to 20 with the lowest NLL.

    log_probs (N, K) of validation images, labels (N,).
    """

    def loss(log_temperature: float) -> float:
        return nll(apply_temperature(log_probs.astype(np.float64), np.exp(log_temperature)), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def calibration_error(log_probs: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over equally wide bins of
    confidence (equation 3). log_probs (N, K), labels (N,)."""
    confidence = np.exp(log_probs.max(axis=-1))
    correct = log_probs.argmax(axis=-1) == labels
    bin_indices = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_indices, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confidence_threshold(log_probs: np.ndarray, labels: np.ndarray, *, accuracy: float) -> float:
    """Return the lowest confidence for which at least the fraction `accuracy` of all predictions that are as confident
    or more are correct; 1 if there is none. log_probs (N, K), labels (N,)."""
    confidence = np.exp(log_probs.max(axis=-1))
    order = np.argsort(-confidence)
    correct = (log_probs.argmax(axis=-1) == labels)[order]
    enough = np.cumsum(correct) / np.arange(1, len(labels) + 1) >= accuracy
    return float(confidence[order][enough].min(initial=1))
