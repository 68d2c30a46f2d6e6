"""The idx format of the MNIST files: a magic number, the sizes, then unsigned bytes."""

import hashlib
import math
import struct
from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError


class IdxFile(NamedTuple):
    """What an idx file of unsigned bytes must be: its sizes, and the SHA-256 of its uncompressed bytes, or any."""

    shape: tuple[int, ...]
    sha256: str | None

    @property
    def header(self) -> bytes:
        return idx_header(self.shape)

    @property
    def num_bytes(self) -> int:
        return len(self.header) + math.prod(self.shape)


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Big-endian: two zeros, 8 for unsigned bytes, the number of sizes, then the sizes."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def encode_idx(array: np.ndarray) -> bytes:
    """array uint8 -> the bytes of its idx file."""
    return idx_header(array.shape) + array.tobytes()


def decode_idx(content: bytes, want: IdxFile, *, place: object, fix: str) -> np.ndarray:
    """Uncompressed bytes -> array of want.shape, uint8, read-only; InputError if they are not the file wanted."""
    if problem := idx_problem(content, want):
        raise InputError(place, problem, fix)
    return np.frombuffer(content, np.uint8, offset=len(want.header)).reshape(want.shape)


def decode_any_idx(content: bytes, dimensions: int, *, place: object, fix: str) -> np.ndarray:
    """Uncompressed bytes -> array of so many dimensions, uint8, read-only, of the sizes that the header says."""
    header = content[4 : 4 + 4 * dimensions].ljust(4 * dimensions, b"\0")
    want = IdxFile(struct.unpack(f">{dimensions}I", header), None)
    return decode_idx(content, want, place=place, fix=fix)


def idx_problem(content: bytes, want: IdxFile) -> str | None:
    header = want.header
    if not content:
        return "is empty"
    if content[:4] != header[:4]:
        return f"starts with 0x{content[:4].hex()}, not with the magic number 0x{header[:4].hex()}"
    if len(content) < len(header):
        return f"is cut short in its header, after {len(content)} bytes"
    if content[: len(header)] != header:
        sizes = struct.unpack(f">{len(want.shape)}I", content[4 : len(header)])
        return f"says it holds {times(sizes)} values, not {times(want.shape)}"
    if len(content) < want.num_bytes:
        return f"is cut short: {len(content):,} bytes, not {want.num_bytes:,}"
    if len(content) > want.num_bytes:
        return f"has {len(content) - want.num_bytes:,} bytes after the last value"
    if want.sha256 and (found := hashlib.sha256(content).hexdigest()) != want.sha256:
        return f"has other content than the original: SHA-256 {found[:12]}..., not {want.sha256[:12]}..."
    return None


def times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
