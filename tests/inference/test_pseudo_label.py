import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.config import PseudoLabelConfig
from jaxnets.inference.pseudo_label import select

ROWS = np.log([[0.9, 0.1], [0.6, 0.4], [0.05, 0.95], [0.8, 0.2], [0.97, 0.03]])
OTHER = np.log([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.45, 0.55], [0.97, 0.03]])
BOTH = np.stack([ROWS, OTHER])


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (PseudoLabelConfig(threshold=0.85), [0, 2, 4]),
        (PseudoLabelConfig(threshold=0.92), [2, 4]),
        (PseudoLabelConfig(threshold=0.6, agreement=0.5), [0, 2, 3, 4]),
        (PseudoLabelConfig(threshold=0.6, agreement=1.0), [0, 2, 4]),
        (PseudoLabelConfig(threshold=0.85, per_class=1), [2, 4]),
        (PseudoLabelConfig(threshold=0.85, per_class=2), [0, 2, 4]),
        (PseudoLabelConfig(threshold=0.99), []),
    ],
)
def test_confident_images_are_selected(selection, rows):
    selected = select(BOTH, 1.0, selection)
    np.testing.assert_array_equal(selected.rows, rows)
    assert (selected.rows.dtype, selected.targets.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(selected.targets, np.exp(BOTH).mean(axis=0)[rows], rtol=1e-6)
    np.testing.assert_allclose(selected.agreement, (1 + 0.5 + 1 + 0.5 + 1) / 5)


def test_temperature_softens_confidence_and_targets():
    odds = np.sqrt(0.97 / 0.03)
    selected = select(BOTH, 2.0, PseudoLabelConfig(threshold=0.84))
    np.testing.assert_array_equal(selected.rows, [4])
    np.testing.assert_allclose(selected.targets, [[odds / (1 + odds), 1 / (1 + odds)]], rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0.2, 0.9), st.integers(1, 5), st.floats(0.5, 2))
def test_selected_images_pass_the_selection(seed, teachers, threshold, per_class, temperature):
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.full(4, 0.3), (teachers, 20)) + 1e-12)
    selection = PseudoLabelConfig(threshold=threshold, agreement=1.0, per_class=per_class)
    selected = select(log_probs, temperature, selection)
    labels = selected.targets.argmax(axis=1)
    assert (np.diff(selected.rows) > 0).all()
    assert selected.targets.shape == (len(selected.rows), 4)
    np.testing.assert_allclose(selected.targets.sum(axis=1), 1, rtol=1e-5)
    assert (selected.targets.max(axis=1) >= threshold - 1e-6).all()
    assert (log_probs[:, selected.rows].argmax(axis=-1) == labels).all()
    assert (np.bincount(labels, minlength=4) <= per_class).all()
    more = select(log_probs, temperature, PseudoLabelConfig(threshold=threshold, agreement=1.0, per_class=20))
    for label in range(4):
        confident = np.sort(more.targets.max(axis=1)[more.targets.argmax(axis=1) == label])[::-1]
        found = np.sort(selected.targets.max(axis=1)[labels == label])[::-1]
        np.testing.assert_array_equal(found, confident[:per_class])
