"""The one averaging rule: the mean of probabilities, for views, members and teachers. NumPy alone."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax


def combine(log_probs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """log_probs (M, N, K), weights (M,) summing to one, equal unless given -> log of the mean probabilities (N, K)."""
    if weights is None:
        weights = np.full(len(log_probs), 1 / len(log_probs))
    return logsumexp(log_probs, axis=0, b=weights[:, None, None])


def accuracy(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """log_probs (N, K), labels (N,) -> the share of rows whose likeliest class is the label."""
    return float((log_probs.argmax(axis=-1) == labels).mean())


def nll(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """log_probs (N, K), labels (N,) -> mean negative log-likelihood of the labels, in nats."""
    return float(-np.take_along_axis(log_probs, labels[:, None], axis=-1).mean())


def fit_weights(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log_probs (M, N, K) of validation rows, labels (N,) -> weights (M,) >= 0 that sum to one and give the least
    NLL."""
    log_probs = log_probs.astype(np.float64)
    loss = lambda scores: nll(combine(log_probs, softmax(scores)), labels)
    return softmax(minimize(loss, np.zeros(len(log_probs)), method="L-BFGS-B").x)
