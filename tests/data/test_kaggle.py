import gzip
import io
import os
import zipfile

import numpy as np
import pytest

from jaxnets.data import kaggle, load, pixel_csv

RNG = np.random.default_rng(0)
X_TRAIN = RNG.integers(0, 256, (12, 784)) * (RNG.random((12, 784)) < 0.3)
Y_TRAIN = np.arange(12) // 2
X_TEST = RNG.integers(0, 256, (5, 784))
PIXELS = ",".join(f"pixel{index}" for index in range(784))


def text(header, rows):
    return "".join([header + "\n", *(",".join(map(str, row)) + "\n" for row in rows)]).encode()


TRAIN = text(f"label,{PIXELS}", np.c_[Y_TRAIN, X_TRAIN])
TEST = text(PIXELS, X_TEST)


def zipped(train=TRAIN, test=TEST, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("train.csv", train)
        archive.writestr("test.csv", test)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.csv").write_bytes(TRAIN)
    (tmp_path / "test.csv").write_bytes(TEST)
    return tmp_path


def check(digits):
    assert (digits.name, digits.num_classes, digits.y_test) == ("kaggle", 10, None)
    np.testing.assert_array_equal(digits.x_train, X_TRAIN.reshape(-1, 28, 28, 1))
    np.testing.assert_array_equal(digits.x_test, X_TEST.reshape(-1, 28, 28, 1))
    np.testing.assert_array_equal(digits.y_train, Y_TRAIN)
    assert [array.dtype for array in digits[1:4]] == [np.uint8, np.int32, np.uint8]


@pytest.mark.parametrize(
    "name", ["digit-recognizer.zip", "kaggle/digit-recognizer.zip", "kaggle/train.csv", "train.csv.gz"]
)
def test_every_location_has_the_same_digits(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".zip":
        path.write_bytes(zipped())
        check(load("kaggle", path))
    else:
        pack = gzip.compress if path.suffix == ".gz" else bytes
        path.write_bytes(pack(TRAIN))
        path.with_name(path.name.replace("train", "test")).write_bytes(pack(TEST))
        check(load("kaggle", path.parent))
    check(load("kaggle", folder=tmp_path))


@pytest.mark.parametrize(
    "train",
    [TRAIN.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + TRAIN, TRAIN.removesuffix(b"\n"), gzip.compress(TRAIN)],
    ids=["CRLF", "BOM", "no final newline", "gzip named csv"],
)
def test_harmless_variants_are_accepted(folder, train):
    (folder / "train.csv").write_bytes(train)
    check(load("kaggle", folder))


def test_the_block_size_does_not_matter(folder, monkeypatch):
    monkeypatch.setattr(pixel_csv, "BLOCK_BYTES", 3000)
    check(load("kaggle", folder))


def with_field(row, column, value):
    """TRAIN with one field replaced; row 1 is the header."""
    lines = TRAIN.decode().split("\n")
    fields = lines[row - 1].split(",")
    fields[column] = value
    lines[row - 1] = ",".join(fields)
    return "\n".join(lines).encode()


FIRST = TRAIN.index(b"\n") + 1


@pytest.mark.parametrize("value", ["256", "-1", "", "1005", "٣"])
def test_a_wrong_value_in_a_later_block_is_reported_with_its_line(folder, assert_rejected, monkeypatch, value):
    monkeypatch.setattr(pixel_csv, "BLOCK_BYTES", 3000)
    (folder / "train.csv").write_bytes(with_field(9, 6, value))
    assert_rejected(["train.csv:9: pixel5 is ", value, "from 0 to 255", "the row"], load, "kaggle", folder)


def test_an_endless_line_is_rejected_before_it_is_split(folder, assert_rejected):
    (folder / "train.csv").write_bytes(TRAIN[:FIRST] + b"0," * 10**6)
    assert_rejected(["train.csv:2", "1000001 columns"], load, "kaggle", folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_rejected(tmp_path, assert_rejected, method):
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(zipped(method=method))
    assert_rejected([f"{path}/train.csv", "unsupported compression method"], load, "kaggle", path)
    path.write_bytes(zipped(method=zipfile.ZIP_STORED))
    check(load("kaggle", path))


def test_members_beyond_the_limit_are_not_decompressed(tmp_path, assert_rejected, monkeypatch):
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(zipped())
    monkeypatch.setattr(kaggle, "MAX_FILE_BYTES", len(TRAIN) - 1)
    assert_rejected([f"{path}/train.csv", "is larger than"], load, "kaggle", path)


@pytest.mark.timeout(20)
def test_missing_data_is_reported(tmp_path, assert_rejected):
    assert_rejected([str(tmp_path), "digit-recognizer.zip", "https://www.kaggle.com"], load, "kaggle", folder=tmp_path)
    assert_rejected(["absent", "No such file"], load, "kaggle", tmp_path / "absent")
    (tmp_path / "train.csv").write_bytes(TRAIN)
    assert_rejected([str(tmp_path), "has train.csv but no test.csv"], load, "kaggle", tmp_path)
    os.mkfifo(tmp_path / "test.csv")
    assert_rejected(["test.csv", "is a pipe"], load, "kaggle", tmp_path)


def test_the_second_read_uses_the_cache(folder, monkeypatch):
    load("kaggle", folder)
    monkeypatch.setattr(kaggle, "decode", None)
    check(load("kaggle", folder))


def test_outdated_and_damaged_caches_are_replaced(folder):
    cache = folder / kaggle.CACHE
    (folder / "train.csv").write_bytes(b"".join(TRAIN.splitlines(keepends=True)[:5]))
    assert len(load("kaggle", folder).x_train) == 4
    (folder / "train.csv").write_bytes(TRAIN)
    check(load("kaggle", folder))
    good = cache.read_bytes()
    for bad in (b"", good[:-100], good[:3000] + b"damage" + good[3006:]):
        cache.write_bytes(bad)
        check(load("kaggle", folder))
        assert cache.read_bytes()[-100:] == good[-100:]


@pytest.mark.parametrize(
    "change",
    [
        lambda cached: {"y_train": cached["y_train"][::-1]},
        lambda cached: {"x_train": cached["x_train"][..., 0]},
        lambda cached: {"x_test": cached["x_test"].astype(float)},
    ],
)
def test_a_cache_of_other_arrays_is_replaced(folder, change):
    check(load("kaggle", folder))
    with np.load(folder / kaggle.CACHE) as file:
        cached = dict(file)
    np.savez(folder / kaggle.CACHE, **cached | change(cached))
    check(load("kaggle", folder))


def test_a_read_only_folder_has_no_cache(folder, monkeypatch):
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("jaxnets.store.atomic.os.replace", full)
    check(load("kaggle", folder))
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]
