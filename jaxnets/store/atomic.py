"""Files and folders that are complete or absent: written beside their place, then renamed."""

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

from jaxnets.errors import InputError, brief
from jaxnets.store.bounded import read_bytes

LIMIT = 1 << 24
"""Bytes of a file of JSON: the longest report takes a hundredth."""
ABANDONED = 24 * 3600
"""Age in seconds from which on a temporary file belongs to a killed writer. Age means the same in every container and
on every host that shares the disk; a process ID does not."""


@contextmanager
def atomic_file(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Yields a path to write to; it becomes `path` when the block ends well, and vanishes when it does not. InputError
    where the disk does not take it, and, where it is to be `new`, if somebody else was quicker."""
    with writing(path), tidy(path) as draft:
        yield draft
        flush_to_disk(draft)
        link_exclusive(draft, path) if new else os.replace(draft, path)
        flush_to_disk(path.parent)


def link_exclusive(draft: Path, path: Path) -> None:
    """FileExistsError if `path` is there already."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # of a file system without links
        os.replace(draft, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; it becomes `path` when the block ends well. What was there before goes in that
    moment, and not if the block fails. InputError where the disk does not take it."""
    with writing(path), tidy(path) as draft:
        draft.mkdir()
        yield draft
        for root, _, names in os.walk(draft):
            for name in (*names, "."):
                flush_to_disk(Path(root, name))
        move_folder(draft, path)


def move_folder(source: Path, path: Path) -> None:
    """Renames a folder to `path`, durably, and removes what was there before."""
    discard(path)
    os.rename(source, path)
    flush_to_disk(path.parent)


@contextmanager
def tidy(path: Path) -> Iterator[Path]:
    """Yields a free name beside `path`; what is there in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary_sibling(path)
    try:
        yield draft
    finally:
        remove(draft)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What was written to `path` before is there still if the disk is full or forbids to write; a person is told so."""
    try:
        yield
    except OSError as error:
        near = next(folder for folder in path.absolute().parents if folder.is_dir())
        problem = f"cannot be written ({error.strerror}; {shutil.disk_usage(near).free / 2**20:,.0f} MiB are free)"
        raise InputError(path, problem, "make room, or choose another folder") from error


def temporary_sibling(path: Path) -> Path:
    """Returns an unused temporary name next to `path`. Removes the abandoned ones of the same path."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another writer of `path` may remove it at the same time
            if time.time() - leftover.lstat().st_mtime > ABANDONED:
                remove(leftover)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def remove_temporary(folder: Path, pattern: str = ".*.tmp") -> None:
    """Removes all temporary files and folders in `folder`, whatever their age: nobody else may write there."""
    for leftover in list(folder.glob(pattern)):
        remove(leftover)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Removes what may be there. It is renamed first: what a kill leaves half removed is not taken for the whole."""
    if path.exists():
        trash = temporary_sibling(path)
        os.rename(path, trash)
        remove(trash)


def flush_to_disk(path: Path) -> None:
    """Waits until the file or folder has reached the disk: a rename alone may outlive its content in a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, new: bool = False) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with atomic_file(path, new=new) as draft:
        draft.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path, fix: str = "have it made anew") -> dict[str, Any]:
    """The object in a file of JSON; InputError, with that remedy, if it holds anything else, or a key twice."""
    try:
        value = json.loads(read_bytes(path, limit=LIMIT), object_pairs_hook=distinct)
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is damaged ({brief(error)})", fix) from error
    return value


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands there twice")
    return value
