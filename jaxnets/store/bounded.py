"""Bytes from elsewhere: regular files only, and nothing inflated beyond what was asked for."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxnets.errors import InputError

LIMIT = 700_000_000
"""Maximum bytes of all arrays of a data set, unpacked: EMNIST ByClass has 640 MB. A small file may unpack to any size,
and is refused within 1 GB of memory."""
PIECE = 1 << 12  # unpacks to at most 4 MB
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
GZIP_ROOM = 1 << 16  # incompressible bytes grow by so much, at the sizes met here
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)


def open_file(path: Path) -> BinaryIO:
    """`path` opened for reading bytes. A pipe is refused before it is opened: opening could wait for ever."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(path, "is a folder", "name a file")
        if not stat.S_ISREG(mode):
            raise InputError(path, "is a pipe or a device", "copy the data into an ordinary file and name that")
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; InputError for anything else. Its size is not asked for:
    what the kernel makes up has none, and a file may grow."""
    with open_file(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(content) > limit:
        raise InputError(path, f"is larger than {limit:,} bytes", "check that it is the right file")
    return content


def unreadable(path: Path, error: OSError) -> InputError:
    return InputError(path, f"cannot be read ({error.strerror})", "check the name and the permissions")


def inflate(content: bytes, *, limit: int, place: object, fix: str) -> bytes:
    """`content` itself, or what it holds if it is gzip, told by its first bytes and not by the file's name.

    At most `limit` + 1 bytes are inflated. InputError if there are more than `limit`, if the end is missing, if the
    check sum fails or if anything follows the gzip stream.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    stream, rest, inflated = zlib.decompressobj(wbits=31), memoryview(content), io.BytesIO()
    try:
        while rest and not stream.eof:  # in pieces, as zlib holds its output twice when it joins it
            inflated.write(stream.decompress(rest[:PIECE], limit + 1 - inflated.tell()))
            rest = rest[PIECE:]
            if inflated.tell() > limit:
                raise InputError(place, f"inflates to more than {limit:,} bytes", fix)
    except zlib.error as error:
        raise InputError(place, "is a damaged gzip file", fix) from error
    if not stream.eof:
        raise InputError(place, "is a gzip file cut short", fix)
    if stream.unused_data or rest:
        raise InputError(place, "has bytes after the end of the gzip stream", fix)
    return inflated.getvalue()


@contextmanager
def open_zip(file: BinaryIO, place: object) -> Iterator[zipfile.ZipFile]:
    """The archive in `file`; whatever goes wrong with it inside the block becomes one InputError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except InputError:
        raise
    except ZIP_FAULTS as error:
        raise InputError(place, "is a damaged zip archive, or none at all", "download or save it again") from error


def read_member(archive: zipfile.ZipFile, name: str, *, limit: int, place: object) -> bytes:
    """The member `name`, in memory, of at most `limit` bytes; call it inside `open_zip`."""
    if name not in archive.namelist():
        raise InputError(place, f"does not hold {name}", "use the archive as downloaded")
    member = archive.getinfo(name)
    if member.file_size > limit:
        raise InputError(f"{place}/{name}", f"is larger than {limit:,} bytes", "use the archive as downloaded")
    if member.compress_type not in COMPRESSIONS:  # bz2 and lzma have errors of their own
        raise InputError(f"{place}/{name}", "is compressed in an unknown way", "use the archive as downloaded")
    return archive.read(member)
