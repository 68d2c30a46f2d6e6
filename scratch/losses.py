"""Loss functions and their gradients with respect to the logits.

logits (B, K), targets (B, K) with rows that sum to one -> loss, the mean over the batch, and dlogits (B, K).
"""

import numpy as np

from scratch.layers import sigmoid_backward, sigmoid_forward


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p = z - log(sum of e^z), row by row. The row's maximum is subtracted first, so no exponent is positive."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.floating, np.ndarray]:
    """C = -mean over the batch of (sum over k of y log p), with p the softmax; dz = (p - y) / B."""
    log_p = log_softmax(logits)
    return -(targets * log_p).sum() / len(logits), (np.exp(log_p) - targets) / len(logits)


def quadratic(logits: np.ndarray, targets: np.ndarray) -> tuple[np.floating, np.ndarray]:
    """C = mean over the batch of |a - y|^2 / 2, with a the sigmoid; dz = (a - y) a (1 - a) / B.

    An output that is confidently wrong, with a near 0 or 1, hardly learns; cross-entropy does not have this problem.
    """
    a, cache = sigmoid_forward(logits)
    error = a - targets
    return (error * error).sum() / 2 / len(logits), sigmoid_backward(error / len(logits), cache)


def smooth_labels(labels: np.ndarray, num_classes: int, *, smoothing: float = 0.0) -> np.ndarray:
    """Return smoothed one-hot targets (N, K) float32 for labels (N,) of integers: 1 - smoothing for the label, plus
    smoothing / K for every class (Szegedy et al. 2016, section 7)."""
    one_hot = np.eye(num_classes, dtype=np.float32)[labels]
    return one_hot * np.float32(1 - smoothing) + np.float32(smoothing / num_classes)


LOSSES = {"cross_entropy": softmax_cross_entropy, "quadratic": quadratic}
