"""A sealed folder: seal.json, written last, holds the SHA-256 of every file in it and says what it was made from. It is
checked before anything there is used: disks, copies and array formats let changed bits pass without a word."""

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError, brief
from jaxnets.store.atomic import atomic_file, atomic_folder, move_folder, remove_temporary, writing
from jaxnets.store.bounded import unreadable

FILE = "seal.json"
VERSION = 1
PARTS = {"version", "made_from", "files"}
LIMIT = 1 << 26
"""Bytes of a seal: that of a state has the history in it, and every step of an epoch that is not finished."""
FIX = "delete the folder; the command that made it makes it anew"


@contextmanager
def sealed_folder(path: Path, made_from: Mapping[str, Any]) -> Iterator[Path]:
    """Yields an empty folder to fill; it becomes `path` when the block ends well: sealed and on the disk. What was
    there before stays until then. `made_from` is whatever JSON tells what the content follows from."""
    with atomic_folder(path) as draft:
        yield draft
        seal(draft, made_from)


def seal(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Seals a folder to which nobody else writes. Temporary files are removed before its files are listed: what is
    listed must stay."""
    remove_temporary(folder, "**/.*.tmp")
    content = {"version": VERSION, "made_from": made_from, "files": hash_files(folder)}
    with atomic_file(folder / FILE) as draft:
        draft.write_text(json.dumps(content | {"sha256": checksum_of(content)}, indent=1) + "\n")


def seal_into_place(unfinished: Path, path: Path, made_from: Mapping[str, Any]) -> None:
    """Seals the folder `unfinished` and renames it to `path`. After a kill or an error `path` is complete, or
    `unfinished` is still there and can be sealed again."""
    with writing(path):
        seal(unfinished, made_from)
        move_folder(unfinished, path)


def check(folder: Path) -> dict[str, Any]:
    """-> what a sealed folder was made from, once every file of it was found as it was written.

    Raises InputError, which names the first file that is missing, changed or too many, or the seal.
    """
    try:
        seal, found = read_seal(folder), hash_files(folder)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    written = seal["files"]
    for name in sorted(written.keys() | found.keys()):
        if name not in written:
            raise InputError(folder / name, "does not belong there", "remove it")
        if written[name] != found.get(name):
            raise InputError(folder / name, "was changed after it was written" if name in found else "is missing", FIX)
    return seal["made_from"]


def is_up_to_date(folder: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether `folder` is there, whole, and made from just that. A damaged one is spoken of; like one that was made
    from something else, it stays until `sealed_folder` has another in its place."""
    try:
        if folder.is_dir() and check(folder) == json.loads(json.dumps(made_from)):
            return True
    except InputError as error:
        warnings.warn(f"{error.place}: {error.problem}; {folder} is made anew", stacklevel=2)
    return False


def identity(folder: Path) -> str:
    """What later stages keep of a sealed folder to know it again, its content and its origin."""
    try:
        return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise without_seal(folder) from error
    except OSError as error:
        raise unreadable(folder / FILE, error) from error


def without_seal(folder: Path) -> InputError:
    if not folder.is_dir():
        return InputError(folder, "is missing", "run the command that makes it")
    return InputError(folder, "has no seal, so it is not whole", FIX)


def read_seal(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        if not is_plain(path) or path.stat().st_size > LIMIT:
            raise ValueError("it is no file of that kind")
        seal = json.loads(path.read_bytes())
        version = seal["version"]
        if version == VERSION and not (isinstance(seal["files"], dict) and isinstance(seal["made_from"], dict)):
            raise ValueError("it lists no files")
        told = seal.pop("sha256", None)  # seals had none once
        if version == VERSION and (seal.keys() != PARTS or told not in (None, checksum_of(seal))):
            raise ValueError("it was changed after it was written")
    except FileNotFoundError as error:
        raise without_seal(folder) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(path, f"is damaged ({brief(error)})", FIX) from error
    if version != VERSION:
        raise InputError(path, f"is of version {version!r:.20}, not {VERSION}", "use the jaxnets that wrote it")
    return seal


def checksum_of(seal: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(seal, sort_keys=True).encode()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """-> the SHA-256 of every file below `folder` but the seal, by its path there.

    InputError for what is no plain file: a link could lead anywhere, a pipe would never end.
    """

    def fail(error: OSError) -> None:
        raise error  # os.walk passes over a folder that it cannot list

    hashes = {}
    for root, folders, files in os.walk(folder, onerror=fail):
        for path in (Path(root, name) for name in folders + files):
            if path.is_symlink() or not (path.is_dir() or is_plain(path)):
                raise InputError(path, "is a link or no plain file", FIX)
        for path in (Path(root, name) for name in files):
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    hashes.pop(FILE, None)
    return hashes


def is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
