import numpy as np
import pytest

from jaxnets.inference.analysis import (
    confusion_counts,
    disagreement,
    misclassified,
    reliability_bins,
    subset_errors,
)
from jaxnets.inference.calibrate import calibration_error

LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def log_probs():
    """Log-probabilities (4, 6, 3) of models with 0, 1, 2 and 6 errors."""
    predictions = np.array([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0], [1, 2, 0, 1, 2, 0]])
    return np.log(0.1 + 0.7 * np.eye(3)[predictions])


def test_confusion_counts_have_one_row_per_label():
    counts = confusion_counts(LABELS, np.array([0, 1, 0, 0, 1, 2]), 3)
    np.testing.assert_array_equal(counts, [[2, 0, 0], [0, 2, 0], [1, 0, 1]])


def test_misclassified_rows_are_ordered_by_confidence(log_probs):
    log_probs[3, 4] = np.log([0.02, 0.02, 0.96])
    assert misclassified(log_probs[3], LABELS).tolist() == [4, 0, 1, 2, 3, 5]
    assert misclassified(log_probs[0], LABELS).tolist() == []


def test_disagreement_counts_different_predictions_and_errors(log_probs):
    counts = disagreement(log_probs, LABELS)
    np.testing.assert_array_equal(counts, [[0, 1, 2, 6], [1, 1, 1, 5], [2, 1, 2, 5], [6, 5, 5, 6]])


def test_errors_of_every_subset_of_the_models(log_probs):
    errors = subset_errors(log_probs, LABELS)
    assert errors[0] == [0, 1, 2, 6]
    assert [len(counts) for counts in errors] == [4, 6, 4, 1]
    assert errors[2][0] == 1  # the first three: two of them are wrong on the last image


def test_many_subsets_are_sampled_with_a_fixed_seed(log_probs):
    many = np.concatenate([log_probs] * 3)
    errors = subset_errors(many, LABELS, max_subsets=20)
    assert max(map(len, errors)) == 20
    assert errors == subset_errors(many, LABELS, max_subsets=20)


def test_reliability_bins_add_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    log_probs, labels = np.log(rng.dirichlet(np.ones(4), 500)), rng.integers(0, 4, 500)
    bins = reliability_bins(log_probs, labels)
    assert sum(one.num_images for one in bins) == 500
    gap = sum(abs(one.confidence - one.accuracy) * one.num_images for one in bins) / 500
    np.testing.assert_allclose(gap, calibration_error(log_probs, labels, bins=10))
    certain = np.log(np.eye(10) + 1e-9)
    assert reliability_bins(certain, np.arange(10)) == [(pytest.approx(1), 1, 10)]
