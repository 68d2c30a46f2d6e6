"""Checkpoints: Orbax writes a step, it is read back, its manifest is written, then it is renamed into place."""

import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxnets.devices import choose_devices
from jaxnets.errors import DivergedError, InputError, short_message
from jaxnets.store.atomic import discard, os_errors_as_input_errors, remove_temporary
from jaxnets.store.manifest import check_manifest, committed_folder
from jaxnets.store.weights import flatten_named

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every file, and logs each error that it raises

KEEP_STEPS = 2
"""Number of steps kept: if the newest is damaged later, training resumes from the one before."""


class Saved(NamedTuple):
    """A restored step."""

    items: dict[str, Any]
    """Trees of NumPy arrays by name."""
    metadata: dict[str, Any]
    """The JSON that was saved with them."""


def save(folder: Path, step: int, items: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Write folder/STEP, complete and on the disk: `items` are trees of arrays by name, `metadata` is JSON.

    This step and the KEEP_STEPS - 1 before it are kept; later ones belong to a run that was abandoned and are removed.

    Raises:
        DivergedError: a value is not finite; nothing is written.
        InputError: the step cannot be written; the steps before are kept.
    """
    items = jax.tree.map(np.asarray, items)
    for name, leaf in flatten_named(items).items():
        if not np.isfinite(leaf).all():
            raise DivergedError(f"{name} is not finite at step {step}: it is not saved")
    with os_errors_as_input_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(folder)
        check_free_space(folder, items, times=1)
        with committed_folder(folder / str(step), {**metadata, "leaves": array_specs(items)}) as temporary:
            write(temporary, items)
            if not trees_equal(read(temporary, items), items):
                raise OSError(0, "reading it back gave other values")
        remove_steps(folder, step)


def remove_steps(folder: Path, step: int) -> None:
    """Remove all steps but `step` and the KEEP_STEPS - 1 before it."""
    found = saved_steps(folder)
    kept = [other for other in found if other <= step][-KEEP_STEPS:]
    for other in sorted(set(found) - set(kept)):
        discard(folder / str(other))


def restore(folder: Path, like: dict[str, Any]) -> Saved | None:
    """Return the newest undamaged step, or None if there is no step. Warns once per damaged step.

    Args:
        folder: holds one folder per step.
        like: trees of arrays or shapes; only the items of these names are read.

    Raises:
        InputError: every step is damaged, or the arrays have other names, shapes or dtypes than in `like`.
    """
    found = saved_steps(folder)
    if found:
        choose_devices(None)  # a missing device must not be reported as a damaged step
    for step in reversed(found):
        path = folder / str(step)
        try:
            metadata = check_manifest(path)
        except InputError as error:
            if step == found[0]:
                raise
            warnings.warn(f"{error.location}: {error.problem}; step {step} is skipped", stacklevel=2)
            continue
        return load(path, like, metadata)
    return None


def load(path: Path, like: dict[str, Any], metadata: dict[str, Any]) -> Saved:
    """Return the step at `path`, whose manifest has been checked. Raises InputError if it does not match `like`."""
    if not isinstance(specs := metadata.pop("leaves", None), dict):
        raise InputError(path, "is not a training step", "name the folder of one")
    check_same_training(path, specs, array_specs(like))
    try:
        return Saved(read(path, like), metadata)
    except Exception as error:  # Orbax raises a type of its own for each part that it does not understand
        fix = "use the version of orbax that wrote it"
        raise InputError(path, f"is undamaged but cannot be read ({short_message(error)})", fix) from error


def saved_steps(folder: Path) -> list[int]:
    """Return the numbers of the steps in `folder`, ascending."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal() and not path.is_symlink())


def check_free_space(folder: Path, items: Any, *, times: int) -> None:
    """Raise InputError unless the disk of `folder`, which may not exist yet, can take `items` `times` times."""
    near = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    needed, free = times * sum(leaf.nbytes for leaf in jax.tree.leaves(items)), shutil.disk_usage(near).free
    if free < needed:
        problem = f"{needed / 2**20:,.1f} MiB are needed, {free / 2**20:,.1f} MiB are free"
        raise InputError(folder, problem, "free some disk space; the same command resumes from the last saved step")


def array_specs(items: dict[str, Any]) -> dict[str, str]:
    """Return dtype and shape of each array by name, such as float32 (3, 3, 1, 16)."""
    return {name: f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}" for name, leaf in flatten_named(items).items()}


def check_same_training(path: Path, saved: dict[str, str], expected: dict[str, str]) -> None:
    """Raise InputError, with the first three differences, unless the saved trees have exactly the expected arrays."""
    trees = {name.partition("/")[0] for name in expected}
    saved = {name: spec for name, spec in saved.items() if name.partition("/")[0] in trees}
    different = [name for name in sorted(expected.keys() | saved.keys()) if expected.get(name) != saved.get(name)]
    if different:
        pairs = [f"{name} is {saved.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in different]
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise InputError(path, f"holds another model: {'; '.join(pairs[:3])}{more}", "name the folder of this model")


def write(folder: Path, items: dict[str, Any]) -> None:
    """Write one Orbax checkpoint per item: if a composite one fails, its threads wait for minutes."""
    with value_errors_as_os_errors(), short_path(folder) as path, open_orbax() as checkpointer:
        for name, tree in items.items():
            checkpointer.save(path / name, args=ocp.args.StandardSave(tree))


def read(folder: Path, like: dict[str, Any]) -> dict[str, Any]:
    """Return the items named in `like` as NumPy arrays."""
    items = {}
    with value_errors_as_os_errors(), short_path(folder) as path, open_orbax() as checkpointer:
        for name, tree in like.items():
            shapes = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)
            items[name] = checkpointer.restore(path / name, args=ocp.args.StandardRestore(shapes))
    return items


@contextmanager
def short_path(folder: Path) -> Iterator[Path]:
    """Yield an absolute path to `folder` without the names of the directories above it.

    Orbax and TensorStore misread some names: a backslash separates directories, `[` begins a glob pattern, `gs:` is a
    URL scheme, and a name that is not UTF-8 cannot be passed at all.
    """
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        link = Path(f"/proc/self/fd/{parent}")
        yield (link if link.exists() else folder.parent.absolute()) / folder.name
    finally:
        os.close(parent)


def open_orbax() -> ocp.Checkpointer:
    """Return a checkpointer for this process only: Orbax would wait for the others, which do not write."""
    this = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"{this}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


@contextmanager
def value_errors_as_os_errors() -> Iterator[None]:
    """Raise OSError for a ValueError, in which Orbax quotes the disk's error within two thousand characters."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else 0
        raise OSError(number, os.strerror(number) if code else " ".join(str(error).split())[:100]) from error


def trees_equal(tree: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two trees of NumPy arrays are bitwise identical."""
    equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes(), tree, other)
    return all(jax.tree.leaves(equal))
