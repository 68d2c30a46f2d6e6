"""Rows without labels that the teachers are sure of: Lee, "Pseudo-Label", 2013, with soft targets and a vote."""

from typing import NamedTuple

import numpy as np

from jaxnets.config import Selection
from jaxnets.inference.calibrate import apply_temperature
from jaxnets.inference.ensemble import combine


class PseudoLabels(NamedTuple):
    """rows (n,) int64 rising; targets (n, K) float32 probabilities, the teachers' calibrated mean; agreement, the
    share of teachers, averaged over *all* rows, who name the class that their mean names."""

    rows: np.ndarray
    targets: np.ndarray
    agreement: float


def select(log_probs: np.ndarray, temperature: float, selection: Selection) -> PseudoLabels:
    """log_probs (M, N, K) of M teachers, temperature of their mean -> the rows that pass `selection`, the surest
    first where a class has too many. The teachers must not have seen the validation rows by which their students are
    judged."""
    mean = apply_temperature(combine(log_probs), temperature)
    label, confidence = mean.argmax(axis=-1), np.exp(mean.max(axis=-1))
    agreement = (log_probs.argmax(axis=-1) == label).mean(axis=0)
    sure = (confidence >= selection.threshold) & (agreement >= selection.agreement)
    chosen = [
        most_confident(np.flatnonzero(sure & (label == k)), confidence, selection.per_class)
        for k in range(mean.shape[-1])
    ]
    rows = np.sort(np.concatenate(chosen))
    return PseudoLabels(rows, np.exp(mean[rows]).astype(np.float32), float(agreement.mean()))


def most_confident(rows: np.ndarray, confidence: np.ndarray, count: int) -> np.ndarray:
    return rows[np.argsort(-confidence[rows], kind="stable")[:count]]
