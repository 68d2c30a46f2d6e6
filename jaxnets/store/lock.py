"""A lock file per folder, released by the operating system when its holder ends, even by a kill."""

import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from jaxnets.errors import InputError
from jaxnets.store.atomic import os_errors_as_input_errors

MAX_HOLDER_CHARACTERS = 300
"""Length of the holder's description in an error message."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which exists inside the block only.

    Raises InputError at once, with the holder's process ID, host and command, if another process holds it.
    """
    while True:
        with _open(path) as file:
            _lock(file, path)
            if not lock_file_unchanged(path, file.fileno()):
                continue
            with os_errors_as_input_errors(path):
                file.truncate(0)
                began = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"process {os.getpid()} on {socket.gethostname()} since {began}: {shlex.join(sys.argv)}\n")
                file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # before the lock is released
            return


def _open(path: Path) -> TextIO:
    with os_errors_as_input_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Links are not followed: one could lead to any file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        return os.fdopen(descriptor, "a+", encoding="utf-8", errors="backslashreplace")


def _lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = " ".join(file.read(MAX_HOLDER_CHARACTERS).split())
        fix = "wait until it has ended, or choose another folder"
        raise InputError(path.parent, f"is being written by {holder}", fix) from error
    except OSError as error:  # a network file system without locks
        fix = "choose a folder on a local disk"
        raise InputError(path.parent, f"cannot be locked ({error.strerror})", fix) from error


def lock_file_unchanged(path: Path, descriptor: int) -> bool:
    """Return False if the open file has lost its name: its last holder may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
