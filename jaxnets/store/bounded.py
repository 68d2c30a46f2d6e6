"""Bounded reading of untrusted files: regular files only, and decompression up to a limit."""

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

MAX_ARRAY_BYTES = 700_000_000
"""Maximum size of all arrays of a data set; EMNIST ByClass has 640 MB. A file that decompresses to more is rejected
within 1 GB of memory."""
CHUNK_BYTES = 1 << 12
"""Compressed bytes per call of zlib, which decompress to at most 4 MB."""
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
GZIP_OVERHEAD_BYTES = 1 << 16
"""Upper bound of what gzip adds to incompressible content of the sizes read here."""
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError, OSError)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes. Raises InputError for anything else.

    The check comes before the opening, as opening a pipe could wait indefinitely.
    """
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
    """Return the content of a regular file. Raises InputError for anything else and for more than `limit` bytes.

    The reported size is not trusted: files in /proc have none, and a file may grow.
    """
    with open_file(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(content) > limit:
        raise InputError(path, f"is larger than {limit:,} bytes", "check that it is the right file")
    return content


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the InputError for a file that the operating system cannot read."""
    return InputError(path, f"cannot be read ({error.strerror})", "check the name and the permissions")


def decompress_gzip(content: bytes, *, limit: int, location: object, fix: str) -> bytes:
    """Return the decompressed content of gzip bytes, or `content` itself if its first bytes are not gzip's.

    At most `limit` + 1 bytes are decompressed. Raises InputError, with `location` and `fix`, if there are more, if the
    stream is truncated, if its checksum differs, or if bytes follow it.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    stream, rest, output = zlib.decompressobj(wbits=31), memoryview(content), io.BytesIO()
    try:
        while rest and not stream.eof:  # in chunks, as zlib holds its output twice when joining it
            output.write(stream.decompress(rest[:CHUNK_BYTES], limit + 1 - output.tell()))
            rest = rest[CHUNK_BYTES:]
            if output.tell() > limit:
                raise InputError(location, f"decompresses to more than {limit:,} bytes", fix)
    except zlib.error as error:
        raise InputError(location, "is a damaged gzip file", fix) from error
    if not stream.eof:
        raise InputError(location, "is a truncated gzip file", fix)
    if stream.unused_data or rest:
        raise InputError(location, "has bytes after the end of the gzip stream", fix)
    return output.getvalue()


@contextmanager
def open_zip(file: BinaryIO, location: object) -> Iterator[zipfile.ZipFile]:
    """Yield the archive in `file`. Every error of a damaged archive inside the block becomes an InputError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except InputError:
        raise
    except ZIP_ERRORS as error:
        raise InputError(location, "is not a zip archive, or is damaged", "download or save it again") from error


def read_member(archive: zipfile.ZipFile, name: str, *, limit: int, location: object) -> bytes:
    """Return the content of the member `name`; call it inside `open_zip`.

    Raises InputError if there is no such member, if it has more than `limit` bytes, or if it is compressed otherwise
    than with deflate.
    """
    fix = "use the archive as downloaded"
    if name not in archive.namelist():
        raise InputError(location, f"has no member {name}", fix)
    member = archive.getinfo(name)
    if member.file_size > limit:
        raise InputError(f"{location}/{name}", f"is larger than {limit:,} bytes", fix)
    check_compression(member, f"{location}/{name}", fix)
    return archive.read(member)


def check_compression(member: zipfile.ZipInfo, location: object, fix: str) -> None:
    """Raise InputError for a compression other than deflate: bz2 and lzma raise errors of their own."""
    if member.compress_type not in COMPRESSIONS:
        raise InputError(location, "has an unsupported compression method", fix)
