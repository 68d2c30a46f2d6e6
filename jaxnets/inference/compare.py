"""Paired comparison of two models on the same images."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest


class Comparison(NamedTuple):
    """How two models differ on the same images."""

    only_first: int
    """Images that only the first model misclassifies."""
    only_second: int
    p_value: float
    """Of McNemar's exact test (McNemar 1947)."""
    nll_difference: float
    """NLL of the first model minus that of the second, the mean over the images."""
    nll_standard_error: float


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """Compare two models. log_probs (N, K) of each for the same images, labels (N,)."""
    wrong_first, wrong_second = (log_probs.argmax(axis=-1) != labels for log_probs in (first, second))
    only_first, only_second = int((wrong_first & ~wrong_second).sum()), int((wrong_second & ~wrong_first).sum())
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    difference = np.take_along_axis(second.astype(np.float64) - first, labels[:, None], axis=-1)[:, 0]
    error = difference.std(ddof=1) / np.sqrt(len(labels))
    return Comparison(only_first, only_second, p_value, float(difference.mean()), float(error))
