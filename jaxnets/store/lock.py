"""One writer a folder: a lock that the system lets go when its holder ends, however that ends."""

import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxnets.errors import InputError
from jaxnets.store.atomic import writing

ANYBODY = 300
"""Characters that are read of what a holder says of itself."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file `path`, which is there as long only. InputError, at once, if somebody else holds it."""
    while True:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not by way of a link, which could lead to anybody's file.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            file = os.fdopen(descriptor, "a+", encoding="utf-8", errors="backslashreplace")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = " ".join(file.read(ANYBODY).split())
                fix = "wait until it has ended, or give another folder"
                raise InputError(path.parent, f"is being written by {holder}", fix) from error
            except OSError as error:  # of a network file system without locks
                fix = "choose a folder on a local disk"
                raise InputError(path.parent, f"cannot be locked ({error.strerror})", fix) from error
            if not lock_file_unchanged(path, file.fileno()):
                continue
            with writing(path):
                file.truncate(0)
                began = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"process {os.getpid()} on {socket.gethostname()} since {began}: {shlex.join(sys.argv)}\n")
                file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # before it is let go
            return


def lock_file_unchanged(path: Path, descriptor: int) -> bool:
    """Whether the open file still has that name: its last holder may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
