import gzip
import re
import struct
import tracemalloc
import zipfile
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

from jaxnets.data import load
from jaxnets.data.arrays import IDX_FILES
from jaxnets.data.idx import encode_idx
from jaxnets.errors import InputError
from jaxnets.store.npz import read_npz
from tests.faults.inputs import member, zipped

RNG = np.random.default_rng(0)
GOOD = {
    "x_train": RNG.integers(0, 256, (8, 9, 10), dtype=np.uint8),
    "y_train": np.arange(8) % 3,
    "x_test": RNG.integers(0, 256, (4, 9, 10), dtype=np.uint8),
    "y_test": np.array([0, 1, 2, 2]),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.npz"


def test_arrays_are_loaded(path):
    np.savez_compressed(path, **GOOD, more=np.zeros(3))
    digits = load(str(path))
    assert (digits.name, digits.num_classes) == ("mine", 3)
    np.testing.assert_array_equal(digits.x_train[..., 0], GOOD["x_train"])
    np.testing.assert_array_equal(digits.y_test, GOOD["y_test"])
    assert [array.dtype for array in digits[1:5]] == [np.uint8, np.int32] * 2


def test_colour_big_endian_fortran_order_and_missing_test_labels_are_accepted(path):
    colour = RNG.integers(0, 256, (8, 9, 10, 3)).astype(">i4")
    np.savez(path, x_train=np.asfortranarray(colour), y_train=GOOD["y_train"], x_test=colour[:2])
    digits = load(str(path))
    np.testing.assert_array_equal(digits.x_train, colour)
    assert digits.x_train.flags.c_contiguous
    assert digits.x_test.shape == (2, 9, 10, 3)
    assert digits.y_test is None


def test_arrays_that_are_too_large_are_rejected_unread(path, assert_rejected, monkeypatch):
    monkeypatch.setattr("jaxnets.store.npz.MAX_ARRAY_BYTES", 10**6)
    path.write_bytes(zipped(**{"x_train.npy": member((10**6,), bytes(10**6))}))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert_rejected([str(path), "more than 1,000,000"], read_npz, path, ("x_train",))


def save_idx(path, *, pack=lambda content: content, **arrays):
    path.mkdir()
    for name, array in arrays.items():
        (path / IDX_FILES[name]).write_bytes(pack(encode_idx(array)))


def save_long_header(path, *, x_train, **rest):
    start = b"\x93NUMPY\2\0" + struct.pack("<I", x_train.nbytes)
    names = {"x_train.npy": start + b" " * x_train.nbytes, "y_train.npy": b"", "x_test.npy": b""}
    path.write_bytes(zipped(**names))


FORMS = {
    "npz": np.savez,
    "compressed npz": np.savez_compressed,
    "idx": save_idx,
    "gzipped idx": partial(save_idx, pack=partial(gzip.compress, compresslevel=1)),
    "long header": save_long_header,
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_in_memory_once(tmp_path, monkeypatch, form):
    monkeypatch.setattr("jaxnets.data.arrays.MAX_ARRAY_BYTES", 17_000_000)
    images, labels = np.zeros((10_000, 40, 40), np.uint8), np.arange(10_000, dtype=np.uint8) % 2
    path = tmp_path / ("mine" if "idx" in form else "mine.npz")
    FORMS[form](path, x_train=images, y_train=labels, x_test=images[:1])
    tracemalloc.start()
    with nullcontext() if form != "long header" else pytest.raises(InputError):
        load(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * images.nbytes


def test_the_limit_is_for_all_idx_files_together(folder, monkeypatch):
    monkeypatch.setattr("jaxnets.data.arrays.MAX_ARRAY_BYTES", 1000)
    with pytest.raises(InputError, match=f"t10k-images.* is larger than {1000 - 8 * 9 * 10 - 8} bytes"):
        load(str(folder))


def test_a_missing_file_is_reported(path, assert_rejected):
    assert_rejected([str(path), "No such file"], load, str(path))


def test_row_numbers_are_not_accepted_as_classes(path, assert_rejected):
    rows = np.arange(2002)
    images = np.zeros((2002, 8, 8), np.uint8)
    np.savez(path, x_train=images, y_train=rows // 2, x_test=images[:1])
    assert_rejected([f"{path}/y_train", "has 1,001 classes", "row numbers?"], load, str(path))
    np.savez(path, x_train=images[2:], y_train=rows[2:] // 2 - 1, x_test=images[:1])
    assert load(str(path)).num_classes == 1000


def test_the_split_of_the_bundled_digits_is_fixed():
    digits = load("digits")
    assert digits.x_train.shape == (1438, 8, 8, 1)
    assert digits.x_test.shape == (359, 8, 8, 1)
    assert (digits.x_train.min(), digits.x_train.max()) == (0, 255)
    assert set(np.bincount(digits.y_test, minlength=10)) <= {35, 36, 37}


@pytest.fixture
def folder(tmp_path):
    """Four idx files with another image size than MNIST's, the images compressed."""
    home = tmp_path / "fashion"
    home.mkdir()
    for name, file in IDX_FILES.items():
        content = encode_idx(GOOD[name].astype(np.uint8))
        (home / file).write_bytes(content) if name[0] == "y" else (home / f"{file}.gz").write_bytes(
            gzip.compress(content)
        )
    return home


def test_a_folder_of_idx_files_is_loaded(folder):
    digits = load(str(folder))
    assert (digits.name, digits.num_classes) == ("fashion", 3)
    np.testing.assert_array_equal(digits.x_train[..., 0], GOOD["x_train"])
    np.testing.assert_array_equal(digits.y_test, GOOD["y_test"])
    (folder / IDX_FILES["y_test"]).unlink()
    assert load(str(folder)).y_test is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("y_train", None, "has no train-labels-idx1-ubyte, raw or .gz"),
        ("y_train", encode_idx(np.zeros((8, 1), np.uint8)), "expected the magic number 0x00000801"),
        ("y_train", encode_idx(np.zeros(8, np.uint8))[:6], "truncated in its header"),
        ("y_train", b"\0\0\x08\x01\xff\xff\xff\xff", "truncated: 8 bytes"),
        ("y_test", encode_idx(np.full(4, 3, np.uint8)), "a class without training images"),
    ],
)
def test_wrong_idx_files_are_rejected(folder, name, content, words):
    path = folder / IDX_FILES[name]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(words)):
        load(str(folder))
