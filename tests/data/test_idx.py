import gzip
import hashlib
import struct
import zlib

import numpy as np
import pytest

from jaxnets.data import mnist
from jaxnets.data.idx import IdxFile, decode_idx, encode_idx
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


def header(*fields, order=">"):
    return struct.pack(f"{order}{len(fields)}I", *fields)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (header(2052) + CONTENT[4:], "magic number"),
        (encode_idx(np.arange(6, dtype=np.uint8)), "magic number"),
        (header(0x0D03) + CONTENT[4:], "magic number"),
        (header(2051, 6, 28, 28, order="<") + CONTENT[16:], "magic number"),
        (b"<html>sign in</html>", "magic number"),
        (CONTENT[:9], "truncated in its header"),
        (CONTENT[:-1], "truncated"),
        (CONTENT + b"x", "1 bytes after the last value"),
        (header(2051, 5, 28, 28) + CONTENT[16:], "shape 5 x 28 x 28, expected 6 x 28 x 28"),
        (header(2051, 0, 28, 28), "0 x 28 x 28"),
        (header(2051, 6, 14, 56) + CONTENT[16:], "6 x 14 x 56"),
        (header(2051, 2**32 - 1, 28, 28) + CONTENT[16:], "4294967295 x 28 x 28"),
        (header(2051, 65536, 65536, 65536) + CONTENT[16:], "65536 x 65536 x 65536"),
        (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), "SHA-256"),
        (PACKED[:-9], "truncated"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged gzip"),
        (PACKED + b"garbage", "bytes after the end"),
        (gzip.compress(CONTENT + bytes(10**7)), "decompresses to more than"),
        (bytes(10**6), "larger than"),
    ],
)
def test_bad_files_are_rejected(path, refused, content, word):
    path.write_bytes(content)
    refused([str(path), word, "do this" if word != "larger than" else "right file"], read, path)


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


def test_the_checksum_covers_the_whole_file():
    other = WANT._replace(sha256="0" * 64)
    with pytest.raises(ValueError, match="differs from the original"):
        decode_idx(CONTENT, other, location="x", fix="y")
