"""Folders with a manifest: seal.json, written last, lists the SHA-256 of every file and what the folder was made from.

Readers check it before they use the folder, as disks, copies and array formats can change bits without any error.
"""

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError, short_message
from jaxnets.store.atomic import atomic_file, atomic_folder, move_folder, os_errors_as_input_errors, remove_temporary
from jaxnets.store.bounded import unreadable

FILE_NAME = "seal.json"
VERSION = 1
MAX_BYTES = 1 << 26
"""Maximum size of a manifest; a checkpoint's holds the history and every step of an unfinished epoch."""
REBUILD_HINT = "delete the folder, and create it again with the command that made it, or fetch it again"


@contextmanager
def committed_folder(path: Path, metadata: Mapping[str, Any]) -> Iterator[Path]:
    """Yield an empty temporary folder; when the block succeeds, write its manifest and rename it to `path`.

    An older `path` is kept until then. `metadata` is JSON that identifies what the content was made from.
    """
    with atomic_folder(path) as temporary:
        yield temporary
        write_manifest(temporary, metadata)


def commit_folder(unfinished: Path, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the manifest of the folder `unfinished` and rename it to `path`.

    After a kill or an error either `path` is complete, or `unfinished` still exists and can be committed again.
    """
    with os_errors_as_input_errors(path):
        write_manifest(unfinished, metadata)
        move_folder(unfinished, path)


def write_manifest(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Remove temporary files, then write the manifest of all others. No other process may write to the folder."""
    remove_temporary(folder, "**/.*.tmp")
    manifest = {"version": VERSION, "made_from": metadata, "files": hash_files(folder)}
    with atomic_file(folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(manifest | {"sha256": checksum_of(manifest)}, indent=1) + "\n")


def check_manifest(folder: Path) -> dict[str, Any]:
    """Return the folder's metadata if every file is as it was when the manifest was written.

    Raises InputError, with the first file that is missing, changed or unexpected, or with the manifest.
    """
    try:
        manifest, found = read_manifest(folder), hash_files(folder)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    expected = manifest["files"]
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected:
            raise InputError(folder / name, "is unexpected", "remove it")
        if expected[name] != found.get(name):
            problem = "was changed after it was written" if name in found else "is missing"
            raise InputError(folder / name, problem, REBUILD_HINT)
    return manifest["made_from"]


def is_up_to_date(folder: Path, metadata: Mapping[str, Any]) -> bool:
    """Return whether `folder` exists, is undamaged and has this metadata. Warns if it is damaged."""
    try:
        if folder.is_dir() and check_manifest(folder) == json.loads(json.dumps(metadata)):
            return True
    except InputError as error:
        warnings.warn(f"{error.location}: {error.problem}; {folder} is recomputed", stacklevel=2)
    return False


def manifest_hash(folder: Path) -> str:
    """Return the SHA-256 of a folder's manifest: it identifies content and metadata. Reads no other file."""
    try:
        return hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise _missing(folder) from error
    except OSError as error:
        raise unreadable(folder / FILE_NAME, error) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest. Raises InputError if it is missing, damaged or of another version."""
    path = folder / FILE_NAME
    try:
        if not is_regular_file(path) or path.stat().st_size > MAX_BYTES:
            raise ValueError("it is too large, or no regular file")
        manifest = json.loads(path.read_bytes())
        version, checksum = manifest["version"], manifest.pop("sha256", None)
        if version == VERSION and checksum != checksum_of(manifest):
            raise ValueError("it was changed after it was written")
    except FileNotFoundError as error:
        raise _missing(folder) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(path, f"is damaged ({short_message(error)})", REBUILD_HINT) from error
    if version != VERSION:
        raise InputError(path, f"has version {version!r:.20}, expected {VERSION}", "use the jaxnets that wrote it")
    return manifest


def checksum_of(value: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder` except the manifest, by relative path.

    Raises InputError for a link, which could lead anywhere, and for a pipe or a device, which may never end; OSError
    for what cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error  # os.walk skips a folder that it cannot list

    hashes = {}
    for root, folders, files in os.walk(folder, onerror=fail):
        for path in (Path(root, name) for name in folders + files):
            if path.is_symlink() or not (path.is_dir() or is_regular_file(path)):
                raise InputError(path, "is a link, or no regular file", REBUILD_HINT)
        for path in (Path(root, name) for name in files):
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    hashes.pop(FILE_NAME, None)
    return hashes


def is_regular_file(path: Path) -> bool:
    """Return whether `path` itself is a regular file; links are not followed."""
    return stat.S_ISREG(path.lstat().st_mode)


def _missing(folder: Path) -> InputError:
    if not folder.is_dir():
        return InputError(folder, "is missing", "run the command that makes it")
    return InputError(folder, f"has no {FILE_NAME}, so it is incomplete", REBUILD_HINT)
