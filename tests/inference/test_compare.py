import numpy as np
import pytest
from scipy.stats import binom

from jaxnets.inference.compare import compare

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])


def log_probs(wrong, confidence=0.8):
    """(8, 2): all predictions with that confidence, correct except for the rows `wrong`."""
    predicted = np.where(np.isin(np.arange(8), wrong), 1 - LABELS, LABELS)
    return np.log(np.where(np.arange(2) == predicted[:, None], confidence, 1 - confidence))


def test_images_that_only_one_model_misclassifies_are_counted():
    found = compare(log_probs([0, 1, 2]), log_probs([2, 3]), LABELS)
    assert (found.only_first, found.only_second) == (2, 1)
    assert found.p_value == pytest.approx(2 * binom.cdf(1, 3, 0.5))
    gap = np.log(0.8) - np.log(0.2)
    differences = np.array([gap, gap, 0, -gap, 0, 0, 0, 0])
    assert found.nll_difference == pytest.approx(differences.mean())
    assert found.nll_standard_error == pytest.approx(differences.std(ddof=1) / np.sqrt(8))


def test_the_same_predictions_do_not_differ():
    assert compare(log_probs([1]), log_probs([1]), LABELS) == (0, 0, 1.0, 0.0, 0.0)
