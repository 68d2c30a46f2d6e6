"""Checks that results can be written where they should go, before any work is done."""

import os
import stat
import tempfile
from pathlib import Path

from jaxnets.errors import InputError

MAX_NAME_BYTES = 230
"""Maximum length of a file name: 255 bytes, less what `temporary_sibling` adds to it."""


def writable(folder: Path) -> None:
    """Create the directory if it is missing. Raises InputError if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", "give another directory") from error


def writable_file(path: Path) -> None:
    """Raise InputError if no file can be written at `path`. Nothing is created, not even its directory.

    A pipe, a device or a link at `path` is an error too: the file would replace it.
    """
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise InputError(path, f"has a name of more than {MAX_NAME_BYTES} bytes", "give a shorter name")
    if path.is_dir():
        raise InputError(path, "is a directory", "give the name of a file")
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(path, "exists and is not a regular file", "give another name")
    writable(next(folder for folder in path.parents if os.path.lexists(folder)))
