"""NumPy's .npz archives, read without pickle and without trusting a header before it is checked."""

import io
import math
import shutil
import tokenize
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from jaxnets.errors import InputError
from jaxnets.store.bounded import MAX_ARRAY_BYTES, check_compression, open_file, open_zip

MAX_HEADER_BYTES = 1 << 14
"""Maximum size of an array's header; NumPy would read as many bytes as it claims to have."""
REWRITE_HINT = "write it again with numpy.savez"


class Header(NamedTuple):
    """The header of an array in an archive."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    num_bytes: int
    """Size of the array's values."""


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return those of the arrays `names` that the archive has. Other members are not read.

    Raises InputError for a damaged archive, for members in folders, for object arrays, for headers that do not match
    the size of their member, and for more than MAX_ARRAY_BYTES in total.
    """
    with open_file(path) as file, open_zip(file, path) as archive:
        if odd := [name for name in archive.namelist() if "/" in name or "\\" in name]:
            raise InputError(path, f"has a member with a path, {odd[0]!r:.60}", REWRITE_HINT)
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        size = sum(archive.getinfo(member).file_size for member in members.values())
        if size > MAX_ARRAY_BYTES:
            problem = f"takes {size:,} bytes in memory, more than {MAX_ARRAY_BYTES:,}"
            raise InputError(path, problem, "store uint8, or fewer images")
        return {name: read_array(archive, member, f"{path}/{name}") for name, member in members.items()}


def read_array(archive: zipfile.ZipFile, member: str, location: object) -> np.ndarray:
    """Return an array of an archive, read-only. Raises InputError as `read_header` does."""
    header, info = read_header(archive, member, location), archive.getinfo(member)
    with archive.open(info) as stream:
        stream.read(info.file_size - header.num_bytes)
        shutil.copyfileobj(stream, content := io.BytesIO())  # in chunks, as read() would hold it twice
    values = np.frombuffer(content.getvalue(), header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def read_header(archive: zipfile.ZipFile, member: str, location: object) -> Header:
    """Return the header of an array, checked against the size of its member; call it inside `open_zip`.

    Raises InputError if the header is damaged, claims another size, or describes Python objects.
    """
    info = archive.getinfo(member)
    check_compression(info, location, REWRITE_HINT)
    with archive.open(info) as file:
        stream = io.BytesIO(file.read(MAX_HEADER_BYTES))
    read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers written by Python 2, which it reads
            shape, fortran_order, dtype = read(stream)
    except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError) as error:  # Python's parser, if nested
        raise InputError(location, "has a damaged header", REWRITE_HINT) from error
    header = Header(shape, fortran_order, dtype, math.prod(shape) * dtype.itemsize)
    if dtype.hasobject:
        raise InputError(location, "holds Python objects, which are not loaded", "store numbers")
    if min(shape, default=0) < 0 or header.num_bytes != info.file_size - stream.tell():
        raise InputError(location, f"claims to be {shape} {dtype}, which does not match its size", REWRITE_HINT)
    return header
