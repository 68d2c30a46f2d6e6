"""NumPy's .npz archives, read without pickle and without believing what a header says before it is checked."""

import io
import math
import shutil
import tokenize
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jaxnets.errors import InputError
from jaxnets.store.bounded import COMPRESSIONS, LIMIT, open_file, open_zip

HEADER = 1 << 14
"""Maximum bytes of an array's header. NumPy would read as many as are claimed."""
AGAIN = "write it again with numpy.savez"


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    num_bytes: int


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that `path` holds; other members are not read.

    InputError for a damaged archive, for members in folders, for object arrays, for headers that do not fit the size
    of their member, and for more than LIMIT bytes in all.
    """
    with open_file(path) as file, open_zip(file, path) as archive:
        if odd := [name for name in archive.namelist() if "/" in name or "\\" in name]:
            raise InputError(path, f"has a member with a path, {odd[0]!r:.60}", AGAIN)
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        sizes = [archive.getinfo(member).file_size for member in members.values()]
        if sum(sizes) > LIMIT:
            problem = f"takes {sum(sizes):,} bytes in memory, more than {LIMIT:,}"
            raise InputError(path, problem, "store uint8, or fewer images")
        return {name: read_array(archive, member, f"{path}/{name}") for name, member in members.items()}


def read_array(archive: zipfile.ZipFile, member: str, place: str) -> np.ndarray:
    info = archive.getinfo(member)
    if info.compress_type not in COMPRESSIONS:
        raise InputError(place, "is compressed in an unknown way", AGAIN)
    with archive.open(info) as stream:
        header = read_header(io.BytesIO(stream.read(HEADER)), info.file_size, place)
    with archive.open(info) as stream:
        stream.read(info.file_size - header.num_bytes)
        shutil.copyfileobj(stream, content := io.BytesIO())  # in pieces, as read() would hold it twice
    values = np.frombuffer(content.getvalue(), header.dtype)
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def read_header(stream: BinaryIO, member_size: int, place: str) -> Header:
    """The .npy header at the start of `stream`, checked against the size of its member."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a remark on headers written by Python 2, which are read all the same
            shape, fortran, dtype = read(stream)
    except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError) as error:  # the parser's own, when nested
        raise InputError(place, "has a damaged header", AGAIN) from error
    header = Header(shape, fortran, dtype, math.prod(shape) * dtype.itemsize)
    if dtype.hasobject:
        raise InputError(place, "holds Python objects, which are not loaded", "store numbers")
    if min(shape, default=0) < 0 or header.num_bytes != member_size - stream.tell():
        raise InputError(place, f"claims to be {shape} {dtype}, which its size does not fit", AGAIN)
    return header
