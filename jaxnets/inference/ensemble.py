"""Averaging of predictions: the mean of probabilities, for views, members and teachers alike. Needs no JAX."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax


def combine(log_probs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the log of the weighted mean of probabilities, (N, K).

    log_probs (M, N, K) of M members or views; weights (M,) that sum to one (not checked), equal by default.
    """
    if weights is None:
        weights = np.full(len(log_probs), 1 / len(log_probs))
    return logsumexp(log_probs, axis=0, b=weights[:, None, None])


def accuracy(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of images whose most probable class is the label. log_probs (N, K), labels (N,)."""
    return float((log_probs.argmax(axis=-1) == labels).mean())


def nll(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels in nats. log_probs (N, K), labels (N,)."""
    return float(-np.take_along_axis(log_probs, labels[:, None], axis=-1).mean())


def fit_weights(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the member weights with the lowest NLL, (M,), non-negative with sum one.

    log_probs (M, N, K) of validation images, labels (N,).
    """
    log_probs = log_probs.astype(np.float64)

    def loss(scores: np.ndarray) -> float:
        return nll(combine(log_probs, softmax(scores)), labels)

    return softmax(minimize(loss, np.zeros(len(log_probs)), method="L-BFGS-B").x)
