"""Two predictions of the same rows, compared pairwise."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest


class Comparison(NamedTuple):
    """`only_first` and `only_second` count the rows that only one of the two classifies wrongly; `p_value` is that of
    McNemar's exact test (McNemar 1947). `nll_difference` is the mean of first minus second, with its standard error."""

    only_first: int
    only_second: int
    p_value: float
    nll_difference: float
    nll_standard_error: float


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Comparison:
    """log_probs (N, K) of two models for the same rows, labels (N,) -> what differs."""
    wrong_first, wrong_second = (log_probs.argmax(axis=-1) != labels for log_probs in (first, second))
    only_first, only_second = int((wrong_first & ~wrong_second).sum()), int((wrong_second & ~wrong_first).sum())
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    difference = np.take_along_axis(second.astype(np.float64) - first, labels[:, None], axis=-1)[:, 0]
    error = difference.std(ddof=1) / np.sqrt(len(labels))
    return Comparison(only_first, only_second, p_value, float(difference.mean()), float(error))
