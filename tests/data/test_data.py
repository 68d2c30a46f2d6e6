import subprocess
import sys

import numpy as np
import pytest

from jaxnets.data import digest, load, stratified_split, write_submission
from jaxnets.errors import InputError

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 10, 3]))


def test_unknown_data_lists_the_known_names():
    with pytest.raises(
        InputError, match=r"'fashion'.*mnist, kaggle, digits, a path ending in \.npz or a folder of idx files"
    ):
        load("fashion")


@pytest.mark.parametrize(("file", "name"), [("mnist.npz", "own-mnist"), ("digits.npz", "own-digits"), ("x.npz", "x")])
def test_own_data_do_not_take_a_known_name(tmp_path, file, name):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / file, x_train=images, y_train=np.arange(4) % 2, x_test=images)
    assert load(str(tmp_path / file)).name == name


def test_an_unused_path_is_rejected(tmp_path):
    with pytest.raises(InputError, match="takes no path"):
        load("digits", tmp_path)


def test_importing_imports_numpy_only():
    code = "import sys, jaxnets.data; print({'jax', 'pandas', 'sklearn', 'rich', 'urllib.request'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_arrays_are_read_only_and_digested():
    digits = load("digits")
    assert not any(array.flags.writeable for array in digits[1:5])
    assert digest(digits) == digest(load("digits"))
    assert digest(digits) != digest(digits._replace(y_test=None))
    assert digest(digits) != digest(digits._replace(x_test=digits.x_test[::-1]))
    assert digest(digits) != digest(digits._replace(x_test=digits.x_test.reshape(-1, 4, 16, 1)))


@pytest.mark.parametrize(("fraction", "sizes"), [(0.2, [10, 2, 1]), (0.001, [1, 1, 1]), (0.999, [49, 9, 2])])
def test_the_split_takes_the_fraction_of_every_class(fraction, sizes):
    train, valid = stratified_split(LABELS, fraction=fraction, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(len(LABELS)))
    np.testing.assert_array_equal(np.bincount(LABELS[valid]), sizes)
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


def test_the_split_is_determined_by_its_seed():
    first, again, other = (stratified_split(LABELS, fraction=0.2, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("labels", "fraction", "word"),
    [
        (np.array([0, 0, 7]), 0.2, "class 7 has a single example"),
        (np.array([], int), 0.2, "there are none"),
        (LABELS, 0.0, "between 0 and 1"),
        (LABELS, 1.0, "between 0 and 1"),
        (LABELS, float("nan"), "between 0 and 1"),
    ],
)
def test_labels_that_cannot_be_split_are_rejected(labels, fraction, word):
    with pytest.raises(InputError, match=word):
        stratified_split(labels, fraction=fraction, seed=0)


def test_a_submission_has_a_line_per_image(tmp_path):
    path = tmp_path / "runs" / "submission.csv"
    write_submission(path, np.array([7, 0, 2], np.int32))
    assert path.read_bytes() == b"ImageId,Label\n1,7\n2,0\n3,2\n"


@pytest.mark.parametrize("labels", [np.zeros((2, 2), int), np.array([0.5]), np.array([-1]), np.array([], int)])
def test_invalid_labels_are_not_written(tmp_path, labels):
    with pytest.raises(InputError, match="one non-negative integer per image"):
        write_submission(tmp_path / "submission.csv", labels)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_submission(tmp_path / "file" / "submission.csv", LABELS)
