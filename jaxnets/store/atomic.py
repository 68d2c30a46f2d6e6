"""Atomic files and folders: written under a temporary name next to their path, then renamed."""

import glob
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError, short_message
from jaxnets.store.bounded import read_bytes

MAX_JSON_BYTES = 1 << 24
"""Maximum size of a JSON file; the longest report takes a hundredth of it."""
ABANDONED_SECONDS = 24 * 3600
"""Age at which a temporary file is taken to belong to a killed writer. Age means the same in every container and on
every host that shares the disk; a process ID does not."""


@contextmanager
def atomic_file(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to `path` when the block succeeds, remove it otherwise.

    Raises:
        InputError: the file cannot be written.
        FileExistsError: the file is to be `new`, and another process has created it.
    """
    with os_errors_as_input_errors(path), temporary_path(path) as temporary:
        yield temporary
        flush_to_disk(temporary)
        link_exclusive(temporary, path) if new else os.replace(temporary, path)
        flush_to_disk(path.parent)


def link_exclusive(temporary: Path, path: Path) -> None:
    """Rename a file to `path`. Raises FileExistsError if `path` exists."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # the file system has no links
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; rename it to `path` when the block succeeds, remove it otherwise.

    An older `path` is kept until then. Raises InputError if the folder cannot be written.
    """
    with os_errors_as_input_errors(path), temporary_path(path) as temporary:
        temporary.mkdir()
        yield temporary
        for root, _, names in os.walk(temporary):
            for name in (*names, "."):
                flush_to_disk(Path(root, name))
        move_folder(temporary, path)


def move_folder(source: Path, path: Path) -> None:
    """Rename a folder to `path` durably, replacing what is there."""
    discard(path)
    os.rename(source, path)
    flush_to_disk(path.parent)


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield an unused path next to `path`; remove what is there at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
    finally:
        remove(temporary)


@contextmanager
def os_errors_as_input_errors(path: Path) -> Iterator[None]:
    """Raise InputError, with the free disk space, for an OSError inside the block, which writes `path`."""
    try:
        yield
    except OSError as error:
        near = next(folder for folder in path.absolute().parents if folder.is_dir())
        problem = f"cannot be written ({error.strerror}; {shutil.disk_usage(near).free / 2**20:,.0f} MiB are free)"
        raise InputError(path, problem, "free some disk space, or choose another folder") from error


def temporary_sibling(path: Path) -> Path:
    """Return an unused temporary name next to `path`. Removes the abandoned ones of the same path."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another writer of `path` may remove it at the same time
            if time.time() - leftover.lstat().st_mtime > ABANDONED_SECONDS:
                remove(leftover)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def remove_temporary(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove all temporary files and folders in `folder`, whatever their age. Only for a folder's single writer."""
    for leftover in list(folder.glob(pattern)):
        remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove `path` if it exists. It is renamed first, so that a kill leaves no half-removed folder of that name."""
    if path.exists():
        trash = temporary_sibling(path)
        os.rename(path, trash)
        remove(trash)


def flush_to_disk(path: Path) -> None:
    """Wait until a file or folder has reached the disk: in a power cut a rename may outlive the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, new: bool = False) -> None:
    """Write `value` as indented JSON, atomically. Raises as `atomic_file` does."""
    with atomic_file(path, new=new) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path, fix: str = "delete it, and run the command that writes it again") -> dict[str, Any]:
    """Return the object in a JSON file. Raises InputError, with `fix`, for other content or a duplicate key."""
    try:
        value = json.loads(read_bytes(path, limit=MAX_JSON_BYTES), object_pairs_hook=_unique_keys)
        if not isinstance(value, dict):
            raise ValueError("expected an object")
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is damaged ({short_message(error)})", fix) from error
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("duplicate key")
    return value
