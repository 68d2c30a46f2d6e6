"""Pseudo-labels: soft targets for unlabelled images on which the teachers are confident (Lee, "Pseudo-Label", 2013)."""

from typing import NamedTuple

import numpy as np

from jaxnets.config import PseudoLabelConfig
from jaxnets.inference.calibrate import apply_temperature
from jaxnets.inference.ensemble import combine


class PseudoLabels(NamedTuple):
    """The selected images and their targets."""

    rows: np.ndarray
    """Indices of the images, (n,) int64, ascending."""
    targets: np.ndarray
    """The teachers' calibrated mean probabilities, (n, K) float32."""
    agreement: float
    """Fraction of teachers that predict the class of their mean, averaged over all N images."""


def select(log_probs: np.ndarray, temperature: float, selection: PseudoLabelConfig) -> PseudoLabels:
    """Select the images that pass `selection`; if a class has too many, the most confident ones.

    log_probs (M, N, K) of M teachers, `temperature` of their mean. The teachers must not be trained on the validation
    images on which their students are evaluated.
    """
    mean = apply_temperature(combine(log_probs), temperature)
    label, confidence = mean.argmax(axis=-1), np.exp(mean.max(axis=-1))
    agreement = (log_probs.argmax(axis=-1) == label).mean(axis=0)
    confident = (confidence >= selection.threshold) & (agreement >= selection.agreement)
    selected = [
        most_confident(np.flatnonzero(confident & (label == k)), confidence, selection.per_class)
        for k in range(mean.shape[-1])
    ]
    rows = np.sort(np.concatenate(selected))
    return PseudoLabels(rows, np.exp(mean[rows]).astype(np.float32), float(agreement.mean()))


def most_confident(rows: np.ndarray, confidence: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the rows, those with the highest confidence (N,)."""
    return rows[np.argsort(-confidence[rows], kind="stable")[:count]]
