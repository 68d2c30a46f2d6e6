import gzip
import hashlib
import os

import numpy as np
import pytest

from jaxnets.data import fetch, load, mnist
from jaxnets.data.idx import IdxFile, encode_idx

RNG = np.random.default_rng(0)
SHAPES = [(20, 28, 28), (20,), (10, 28, 28), (10,)]
CONTENTS = {
    name: encode_idx(RNG.integers(0, 10, shape, dtype=np.uint8))
    for name, shape in zip(mnist.FILES, SHAPES, strict=True)
}
LAST = "t10k-labels-idx1-ubyte"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with four small files, which the module takes for MNIST."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    files = {name: IdxFile(shape, checksums[name]) for name, shape in zip(checksums, SHAPES, strict=True)}
    monkeypatch.setattr(mnist, "FILES", files)
    (tmp_path / "mnist").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    return tmp_path


def no_fetch(*_):
    raise AssertionError("nothing may be downloaded")


def test_four_files_become_digits(folder, monkeypatch):
    monkeypatch.setattr(fetch, "fetch", no_fetch)
    first = folder / "mnist" / LAST
    first.with_suffix(".gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    digits = load("mnist", folder=folder)
    assert (digits.name, digits.num_classes) == ("mnist", 10)
    assert [array.shape for array in digits[1:5]] == [(20, 28, 28, 1), (20,), (10, 28, 28, 1), (10,)]
    assert [array.dtype for array in digits[1:5]] == [np.uint8, np.int32] * 2
    assert encode_idx(digits.x_train[..., 0]) == CONTENTS["train-images-idx3-ubyte"]
    assert load("mnist", folder / "mnist").name == "mnist"


def test_only_missing_files_are_downloaded(folder, monkeypatch):
    calls = []

    def fake_fetch(missing, folder):
        calls.append((list(missing), folder))
        (folder / LAST).write_bytes(CONTENTS[LAST])

    (folder / "mnist" / LAST).unlink()
    monkeypatch.setattr(fetch, "fetch", fake_fetch)
    load("mnist", folder=folder)
    assert calls == [([LAST], folder / "mnist")]


def test_nothing_is_downloaded_to_a_given_folder(folder, assert_rejected, monkeypatch):
    monkeypatch.setattr(fetch, "fetch", no_fetch)
    (folder / "mnist" / LAST).unlink()
    assert_rejected([str(folder / "mnist"), LAST, "give no path"], load, "mnist", folder / "mnist")
    assert_rejected(["absent", LAST], load, "mnist", folder / "absent")
    assert_rejected(["train-images", "is not a folder"], load, "mnist", folder / "mnist" / "train-images-idx3-ubyte")


def test_files_with_other_checksums_are_rejected(folder, assert_rejected):
    path = folder / "mnist" / LAST
    path.write_bytes(CONTENTS[LAST][:-1] + b"\x0b")
    assert_rejected([str(path), "differs from the original", "download it again", ".npz"], load, "mnist", folder=folder)
    assert_rejected([str(path), "replace it by the original", ".npz"], load, "mnist", folder / "mnist")


@pytest.mark.timeout(20)
def test_pipes_folders_and_broken_links_are_rejected(folder, assert_rejected):
    path = folder / "mnist" / LAST
    path.unlink()
    os.mkfifo(path)
    assert_rejected([str(path), "is a pipe"], load, "mnist", folder=folder)
    path.unlink()
    path.mkdir()
    assert_rejected([str(path), "is a folder"], load, "mnist", folder=folder)
    path.rmdir()
    path.symlink_to(path)
    assert_rejected([str(path), "cannot be read"], load, "mnist", folder=folder)


def test_missing_permission_is_reported(folder, assert_rejected, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mnist.Path, "open", closed)
    assert_rejected(["train-images", "Permission denied", "permissions"], load, "mnist", folder=folder)
