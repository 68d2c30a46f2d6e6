import os

import numpy as np
import pytest

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store import train_rows
from jaxnets.store.train_rows import hash_rows, was_trained_on, write_rows


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


def test_only_equal_images_have_equal_hashes(images):
    changed = images.copy()
    changed[3, 7, 7, 0] ^= 1
    assert np.flatnonzero(hash_rows(images) != hash_rows(changed)).tolist() == [3]
    assert len(np.unique(hash_rows(images))) == len(images)


def test_training_images_are_recognised(images, tmp_path):
    write_rows(tmp_path, images[10:20])
    assert np.flatnonzero(was_trained_on(tmp_path, images)).tolist() == list(range(10, 20))


def test_hashes_do_not_depend_on_the_memory_order(images, tmp_path):
    write_rows(tmp_path, images)
    fortran = np.asfortranarray(images)
    assert was_trained_on(tmp_path, fortran).all()
    assert not was_trained_on(tmp_path, images[:, ::-1]).any()


def test_missing_hashes_are_an_error(images, tmp_path):
    with pytest.raises(InputError, match=r"does not record which images.*Fix: train it again"):
        was_trained_on(tmp_path, images)


@pytest.mark.parametrize("content", [b"", b"no array", "floats"])
def test_damaged_hashes_are_reported_with_their_file(images, tmp_path, content):
    path = tmp_path / "train_rows.npy"
    np.save(path, np.zeros(3)) if content == "floats" else path.write_bytes(content)
    with pytest.raises(InputError, match=r"train_rows.npy: is damaged"):
        was_trained_on(tmp_path, images)


@pytest.mark.timeout(20)
def test_a_pipe_or_too_large_a_file_is_not_read(images, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "train_rows.npy")
    with pytest.raises(InputError, match=r"train_rows.npy: is a pipe or a device"):
        was_trained_on(tmp_path, images)
    (tmp_path / "train_rows.npy").unlink()
    write_rows(tmp_path, images)
    monkeypatch.setattr(train_rows, "MAX_BYTES", 128 + 8 * len(images) - 1)
    with pytest.raises(InputError, match=r"train_rows.npy: is larger than 447 bytes"):
        was_trained_on(tmp_path, images)


def test_the_bundled_digits_share_no_image_between_training_and_test():
    digits = data.load("digits")
    assert not np.isin(hash_rows(digits.x_test), hash_rows(digits.x_train)).any()
