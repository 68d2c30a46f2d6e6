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


FIRST, SECOND = TRAIN.index(b"\n") + 1, TRAIN.index(b"\n", TRAIN.index(b"\n") + 1) + 1
WRONG_FIELDS = [
    "256",
    "-1",
    "0.5",
    "abc",
    "",
    " ",
    "nan",
    "NaN",
    "1e2",
    "+5",
    '"7"',
    "1005",
    "99999999999999999999",
    "٣",
]
SHUFFLED = text("label," + ",".join(reversed(PIXELS.split(","))), np.c_[Y_TRAIN, X_TRAIN])


@pytest.mark.parametrize("value", WRONG_FIELDS)
@pytest.mark.parametrize("block", [3000, 1 << 20])
def test_a_wrong_value_is_reported_with_its_line(folder, refused, monkeypatch, value, block):
    monkeypatch.setattr(pixel_csv, "BLOCK_BYTES", block)
    (folder / "train.csv").write_bytes(with_field(9, 6, value))
    refused(["train.csv:9: pixel5 is ", value.strip(), "from 0 to 255", "the row"], load, "kaggle", folder)


@pytest.mark.parametrize("value", ["10", "-1", "3.7", ""])
def test_a_wrong_label_is_reported_with_its_line(folder, refused, value):
    (folder / "train.csv").write_bytes(with_field(13, 0, value))
    refused(["train.csv:13: label is ", value, "from 0 to 9"], load, "kaggle", folder)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (b"", ["train.csv: is empty", "download it again"]),
        (b"\r\n\n", ["train.csv: is empty"]),
        (TRAIN[:FIRST], ["a header and no rows"]),
        (TRAIN[FIRST:], ["train.csv:1", "no header"]),
        (TRAIN[:-1000], ["train.csv:13", "columns, expected 785"]),
        (with_field(4, 9, "1,2"), ["train.csv:4", "786 columns, expected 785"]),
        (TRAIN[:SECOND] + b"\n" + TRAIN[SECOND:], ["train.csv:3", "empty", "remove it"]),
        (TRAIN[: SECOND - 1] + b"," + TRAIN[SECOND:], ["train.csv:2", "1570 columns, expected 785"]),
        (TRAIN + TRAIN, ["train.csv:14", "two files are joined", "split"]),
        (TRAIN.replace(b",", b";"), ["train.csv:1", "commas"]),
        (TRAIN.decode().encode("utf-16"), ["UTF-16", "UTF-8"]),
        (TRAIN.decode().encode("utf-16-le"), ["UTF-16", "UTF-8"]),
        (TRAIN[:SECOND] + bytes(100) + TRAIN[SECOND:], ["train.csv:3", "NUL", "again"]),
        (b"\n<!DOCTYPE html><title>Kaggle</title>", ["web page", "sign in to Kaggle", "rules"]),
        (zipped(), ["zip archive"]),
        (gzip.compress(TRAIN)[:-20], ["truncated gzip", "again"]),
        (TEST, ["train.csv:1", "no label", "swapped"]),
        (with_field(1, 784, "pixel5"), ["train.csv:1", "duplicate column 'pixel5'"]),
        (text("label," + ",".join(PIXELS.split(",")[:783]), []), ["train.csv:1", "no column pixel783 (783 pixel"]),
        (text("label," + ",".join(PIXELS.split(",")[:196]), []), ["no column pixel196 (196 pixel", "28 x 28"]),
        (text(f"ImageId,label,{PIXELS}", []), ["train.csv:1", "extra column 'ImageId'", "as downloaded"]),
        (text(f"{PIXELS},label", []), ["train.csv:1", "another order", "column 1 is pixel0, expected label"]),
        (SHUFFLED, ["another order", "column 2 is pixel783, expected pixel0"]),
    ],
)
def test_a_wrong_table_is_rejected(folder, refused, train, words):
    (folder / "train.csv").write_bytes(train)
    refused([str(folder), *words], load, "kaggle", folder)


def test_an_endless_line_is_rejected_before_it_is_split(folder, refused):
    (folder / "train.csv").write_bytes(TRAIN[:FIRST] + b"0," * 10**6)
    refused(["train.csv:2", "1000001 columns"], load, "kaggle", folder)


def test_a_wrong_test_table_or_zip_is_rejected(tmp_path, refused):
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(zipped(test=TRAIN))
    refused([f"{path}/test.csv:1", "label", "swapped"], load, "kaggle", path)
    path.write_bytes(zipped()[:-30])
    refused([str(path), "not a zip archive, or is damaged", "again"], load, "kaggle", path)
    path.write_bytes(zipped().replace(b"test.csv", b"none.csv"))
    refused([str(path), "has no member test.csv"], load, "kaggle", path)
    path.write_bytes(b"<html>")
    refused([str(path), "web page", "sign in"], load, "kaggle", path)
    path.write_bytes(TRAIN)
    refused([str(path), "not a zip", "train.csv and test.csv"], load, "kaggle", path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_rejected(tmp_path, refused, method):
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(zipped(method=method))
    refused([f"{path}/train.csv", "unsupported compression method"], load, "kaggle", path)
    path.write_bytes(zipped(method=zipfile.ZIP_STORED))
    check(load("kaggle", path))


def test_members_beyond_the_limit_are_not_decompressed(tmp_path, refused, monkeypatch):
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(zipped())
    monkeypatch.setattr(kaggle, "MAX_FILE_BYTES", len(TRAIN) - 1)
    refused([f"{path}/train.csv", "is larger than"], load, "kaggle", path)


@pytest.mark.timeout(20)
def test_missing_data_is_reported(tmp_path, refused):
    refused([str(tmp_path), "digit-recognizer.zip", "https://www.kaggle.com"], load, "kaggle", folder=tmp_path)
    refused(["absent", "No such file"], load, "kaggle", tmp_path / "absent")
    (tmp_path / "train.csv").write_bytes(TRAIN)
    refused([str(tmp_path), "has train.csv but no test.csv"], load, "kaggle", tmp_path)
    os.mkfifo(tmp_path / "test.csv")
    refused(["test.csv", "is a pipe"], load, "kaggle", tmp_path)


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


@pytest.mark.parametrize("rehashed", [False, True], ids=["old checksum", "new checksum"])
@pytest.mark.parametrize(
    "change",
    [
        lambda cached: {"y_train": np.full(12, 77, np.uint8)},
        lambda cached: {"x_train": cached["x_train"][:3]},
        lambda cached: {"x_train": cached["x_train"][..., 0]},
        lambda cached: {"x_test": cached["x_test"].astype(float)},
        lambda cached: {"y_train": cached["y_train"][:, None]},
        lambda cached: {"y_train": cached["y_train"][()].astype(str)},
    ],
)
def test_a_cache_of_other_arrays_is_replaced(folder, change, rehashed):
    check(load("kaggle", folder))
    cache = folder / kaggle.CACHE
    good = cache.read_bytes()
    with np.load(cache) as file:
        cached = dict(file)
    cached |= change(cached)
    if rehashed:
        arrays = tuple(map(cached.get, ("x_train", "y_train", "x_test")))
        cached["sha256"] = np.frombuffer(kaggle.hash_arrays(arrays), np.uint8)
    np.savez(cache, **cached)
    check(load("kaggle", folder))
    assert cache.read_bytes()[-100:] == good[-100:]


def test_a_cache_with_permuted_labels_is_replaced(folder):
    check(load("kaggle", folder))
    with np.load(folder / kaggle.CACHE) as file:
        cached = dict(file)
    np.savez(folder / kaggle.CACHE, **cached | {"y_train": cached["y_train"][::-1]})
    check(load("kaggle", folder))


def test_a_read_only_folder_has_no_cache(folder, monkeypatch):
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("jaxnets.store.atomic.os.replace", full)
    check(load("kaggle", folder))
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]
