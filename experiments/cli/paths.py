"""Whether results can be written where they are to go: asked before any work is done."""

import os
import stat
import tempfile
from pathlib import Path

from jaxnets.errors import InputError

NAME = 230
"""Maximum length of a file's name: 255 bytes, less what `temporary_sibling` adds to it."""


def writable(folder: Path) -> None:
    """Makes the folder where it is missing; InputError, before any work is done, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", "give another folder") from error


def writable_file(path: Path) -> None:
    """InputError, before any work is done, if no file can be written at `path`, or if a pipe, a device or a link is
    there, which the file would replace. Nothing is made, not even its folder."""
    if len(os.fsencode(path.name)) > NAME:
        raise InputError(path, f"has a name of more than {NAME} bytes", "give a shorter name")
    if path.is_dir():
        raise InputError(path, "is a folder", "give the name of a file")
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(path, "is there and is no ordinary file", "give another name")
    writable(next(folder for folder in path.parents if os.path.lexists(folder)))
