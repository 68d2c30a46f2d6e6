"""The idx format of the MNIST files: a magic number, the shape, then unsigned bytes.

Source: http://yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
"""

import hashlib
import math
import struct
from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError


class IdxFile(NamedTuple):
    """What an idx file of unsigned bytes must contain."""

    shape: tuple[int, ...]
    sha256: str | None
    """Of the uncompressed bytes; None accepts any."""

    @property
    def header(self) -> bytes:
        return idx_header(self.shape)

    @property
    def num_bytes(self) -> int:
        return len(self.header) + math.prod(self.shape)


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Return two zeros, 8 for unsigned bytes, the number of dimensions, then the shape; big-endian."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def encode_idx(array: np.ndarray) -> bytes:
    """Return the idx file of a uint8 array.

    >>> encode_idx(np.array([7, 9], np.uint8)).hex()
    '00000801000000020709'
    """
    return idx_header(array.shape) + array.tobytes()


def decode_idx(content: bytes, expected: IdxFile, *, location: object, fix: str) -> np.ndarray:
    """Return the array of an uncompressed idx file: uint8 of the expected shape, read-only.

    Raises InputError, with `location` and `fix`, if the content is not as expected.
    """
    if problem := idx_problem(content, expected):
        raise InputError(location, problem, fix)
    return np.frombuffer(content, np.uint8, offset=len(expected.header)).reshape(expected.shape)


def decode_any_idx(content: bytes, dimensions: int, *, location: object, fix: str) -> np.ndarray:
    """Return the array of an uncompressed idx file of any shape with so many dimensions: uint8, read-only.

    Raises InputError, with `location` and `fix`, if the file is damaged.
    """
    header = content[4 : 4 + 4 * dimensions].ljust(4 * dimensions, b"\0")
    expected = IdxFile(struct.unpack(f">{dimensions}I", header), None)
    return decode_idx(content, expected, location=location, fix=fix)


def idx_problem(content: bytes, expected: IdxFile) -> str | None:
    """Return how `content` differs from the expected file, None if it does not."""
    header = expected.header
    if not content:
        return "is empty"
    if content[:4] != header[:4]:
        return f"starts with 0x{content[:4].hex()}, expected the magic number 0x{header[:4].hex()}"
    if len(content) < len(header):
        return f"is truncated in its header, after {len(content)} bytes"
    if content[: len(header)] != header:
        shape = struct.unpack(f">{len(expected.shape)}I", content[4 : len(header)])
        return f"has shape {format_shape(shape)}, expected {format_shape(expected.shape)}"
    if len(content) < expected.num_bytes:
        return f"is truncated: {len(content):,} bytes, expected {expected.num_bytes:,}"
    if len(content) > expected.num_bytes:
        return f"has {len(content) - expected.num_bytes:,} bytes after the last value"
    if expected.sha256 and (found := hashlib.sha256(content).hexdigest()) != expected.sha256:
        return f"differs from the original: SHA-256 {found[:12]}..., expected {expected.sha256[:12]}..."
    return None


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape such as 60000 x 28 x 28."""
    return " x ".join(map(str, shape))
