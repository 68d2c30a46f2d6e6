"""Error analysis: confusion counts, reliability, errors by ensemble size and disagreement between models."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from jaxnets.inference.ensemble import combine


class ReliabilityBin(NamedTuple):
    """The images whose confidence lies in one interval: mean confidence, accuracy and number of images."""

    confidence: float
    accuracy: float
    num_images: int


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """labels (N,), predicted classes (N,) -> counts (K, K): one row per label, one column per prediction."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def misclassified(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log_probs (N, K), labels (N,) -> indices of the misclassified rows, the most confident prediction first."""
    wrong = np.flatnonzero(log_probs.argmax(-1) != labels)
    return wrong[np.argsort(-log_probs[wrong].max(-1), kind="stable")]


def reliability_bins(log_probs: np.ndarray, labels: np.ndarray, *, bins: int = 10) -> list[ReliabilityBin]:
    """log_probs (N, K), labels (N,) -> the points of a reliability diagram, without empty bins: Guo et al., "On
    Calibration of Modern Neural Networks", 2017, figure 4."""
    confidence, correct = np.exp(log_probs.max(-1)), log_probs.argmax(-1) == labels
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    groups = [bin_index == index for index in np.unique(bin_index)]
    return [
        ReliabilityBin(float(confidence[group].mean()), float(correct[group].mean()), int(group.sum()))
        for group in groups
    ]


def subset_errors(log_probs: np.ndarray, labels: np.ndarray, *, max_subsets: int = 60) -> list[list[int]]:
    """log_probs (M, N, K), labels (N,) -> for each ensemble size from 1 to M, the errors of every subset of the models,
    or of `max_subsets` random ones if there are more."""
    rng = np.random.default_rng(0)
    errors = []
    for size in range(1, len(log_probs) + 1):
        if math.comb(len(log_probs), size) <= max_subsets:
            subsets = list(itertools.combinations(range(len(log_probs)), size))
        else:
            subsets = [tuple(rng.choice(len(log_probs), size, replace=False)) for _ in range(max_subsets)]
        errors.append([int((combine(log_probs[list(subset)]).argmax(-1) != labels).sum()) for subset in subsets])
    return errors


def disagreement(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log_probs (M, N, K), labels (N,) -> counts (M, M): images for which two models predict different classes; the
    diagonal counts each model's errors."""
    predictions = log_probs.argmax(-1)
    counts = (predictions[:, None] != predictions[None]).sum(-1)
    np.fill_diagonal(counts, (predictions != labels).sum(-1))
    return counts
