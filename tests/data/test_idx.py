import gzip
import hashlib
import struct
import zlib

import numpy as np
import pytest

from jaxnets.data import mnist
from jaxnets.data.idx import IdxFile, encode_idx
from jaxnets.store.bounded import decompress_gzip

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
CONTENT = encode_idx(IMAGES)
WANT = IdxFile(IMAGES.shape, hashlib.sha256(CONTENT).hexdigest())
PACKED = gzip.compress(CONTENT, mtime=0)
NAME = "train-images-idx3-ubyte"


def read(path):
    return mnist.read_file(path.parent, NAME, "do this")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "FILES", {NAME: WANT})
    return tmp_path / NAME


@pytest.mark.parametrize("content", [CONTENT, PACKED])
def test_raw_and_gzip_files_have_the_same_images(path, content):
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), IMAGES)


def header(*fields):
    return struct.pack(f">{len(fields)}I", *fields)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (header(2052) + CONTENT[4:], "magic number"),
        (CONTENT[:9], "truncated in its header"),
        (CONTENT[:-1], "truncated"),
        (CONTENT + b"x", "1 bytes after the last value"),
        (header(2051, 5, 28, 28) + CONTENT[16:], "shape 5 x 28 x 28, expected 6 x 28 x 28"),
        (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), "SHA-256"),
        (PACKED[:-9], "truncated"),
        (gzip.compress(CONTENT + bytes(10**7)), "decompresses to more than"),
        (bytes(10**6), "larger than"),
    ],
)
def test_bad_files_are_rejected(path, assert_rejected, content, word):
    path.write_bytes(content)
    assert_rejected([str(path), word, "do this" if word != "larger than" else "right file"], read, path)


def test_decompression_stops_one_byte_after_the_limit(monkeypatch):
    limits = []

    class Stream:
        eof = False

        def decompress(self, content, limit):
            limits.append(limit)
            return content

    monkeypatch.setattr(zlib, "decompressobj", lambda **_: Stream())
    with pytest.raises(ValueError, match="more than 10 bytes"):
        decompress_gzip(b"\x1f\x8b" + bytes(9), limit=10, location="x", fix="y")
    assert limits == [11]
