"""Files that are complete or absent, folders with checksums, and locks. Standard library only.

Other modules are imported by name, as they need more: ``npz``, ``train_rows`` and ``fingerprint`` need NumPy,
``weights`` needs JAX, ``checkpoint`` needs JAX and Orbax.
"""

from jaxnets.store.atomic import atomic_file, atomic_folder, read_json, write_json
from jaxnets.store.bounded import read_bytes
from jaxnets.store.lock import locked
from jaxnets.store.manifest import (
    check_manifest,
    commit_folder,
    committed_folder,
    is_up_to_date,
    manifest_hash,
    write_manifest,
)

__all__ = [
    "atomic_file",
    "atomic_folder",
    "check_manifest",
    "commit_folder",
    "committed_folder",
    "is_up_to_date",
    "locked",
    "manifest_hash",
    "read_bytes",
    "read_json",
    "write_json",
    "write_manifest",
]
