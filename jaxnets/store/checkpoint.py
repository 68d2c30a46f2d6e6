"""Training states on disk: orbax writes a step, it is read back and sealed, and only then is it there."""

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
from jaxnets.errors import DivergedError, InputError, brief
from jaxnets.store.atomic import discard, remove_temporary, writing
from jaxnets.store.manifest import check, sealed_folder
from jaxnets.store.weights import flatten_named

logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs every file, and logs each error that it raises

KEEP = 2
"""Steps that stay: if the newest is damaged later, training goes on from the one before."""


class Saved(NamedTuple):
    """Trees of NumPy arrays by name, and the JSON that was saved with them."""

    items: dict[str, Any]
    facts: dict[str, Any]


def save(folder: Path, step: int, items: dict[str, Any], facts: dict[str, Any], *, keep: int = KEEP) -> None:
    """Makes folder/STEP of the trees of arrays `items` and of `facts`, complete and on the disk. Keeps this step and
    the `keep` - 1 before it, and removes all others: later ones are of a training that was abandoned.

    Raises DivergedError, and writes nothing, if a value is not finite; InputError if the disk does not take it: the
    steps before are kept.
    """
    items = jax.tree.map(np.asarray, items)
    for name, leaf in flatten_named(items).items():
        if not np.isfinite(leaf).all():
            raise DivergedError(f"{name} is not finite at step {step}: it is not saved")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(folder)
        check_free_space(folder, items, times=1)
        with sealed_folder(folder / str(step), {**facts, "leaves": describe(items)}) as draft:
            write(draft, items)
            if not same(read(draft, items), items):
                raise OSError(0, "what was written reads otherwise")
        found = steps(folder)
        kept = [other for other in found if other <= step][-keep:]
        for other in sorted(set(found) - set(kept)):
            discard(folder / str(other))


def restore(folder: Path, like: dict[str, Any]) -> Saved | None:
    """Those items of the newest step that `like` (trees of arrays or of shapes) names; None where there is no step.

    A damaged step is passed over with one warning. Raises InputError where none is whole, and where arrays have other
    names, shapes or types than in `like`.
    """
    found = steps(folder)
    if found:
        choose_devices(None)  # a device that is missing is not the fault of what is read
    for step in reversed(found):
        path = folder / str(step)
        try:
            facts = check(path)
        except InputError as error:
            if step == found[0]:
                raise
            warnings.warn(f"{error.place}: {error.problem}; step {step} is left out", stacklevel=2)
            continue
        if not isinstance(leaves := facts.pop("leaves", None), dict):
            raise InputError(path, "is no step of a training", "name the folder of one")
        check_same_training(path, leaves, describe(like))
        try:
            return Saved(read(path, like), facts)
        except Exception as error:  # orbax has its own for each part that it does not understand
            fix = "use the version of orbax that wrote it"
            raise InputError(path, f"is whole, and cannot be read ({brief(error)})", fix) from error
    return None


def steps(folder: Path) -> list[int]:
    """The steps that `folder` holds, rising."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal() and not path.is_symlink())


def check_free_space(folder: Path, items: Any, *, times: int) -> None:
    """InputError unless the disk of `folder`, which need not be there yet, has room for the items so many times."""
    near = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    needed, free = times * sum(leaf.nbytes for leaf in jax.tree.leaves(items)), shutil.disk_usage(near).free
    if free < needed:
        problem = f"{needed / 2**20:,.1f} MiB are needed, {free / 2**20:,.1f} MiB are free"
        raise InputError(folder, problem, "make room; the same command goes on from the last saved step")


def describe(items: dict[str, Any]) -> dict[str, str]:
    """-> what each array is, such as float32 (3, 3, 1, 16), by its name."""
    return {name: f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}" for name, leaf in flatten_named(items).items()}


def check_same_training(path: Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    """InputError, with the first three differences, unless the wanted arrays are there just so, and no others in their
    trees."""
    trees = {name.partition("/")[0] for name in wanted}
    ours = {name: kind for name, kind in saved.items() if name.partition("/")[0] in trees}
    different = [name for name in sorted(wanted.keys() | ours.keys()) if wanted.get(name) != ours.get(name)]
    if different:
        pairs = [f"{name} is {ours.get(name, 'missing')}, not {wanted.get(name, 'there')}" for name in different[:3]]
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise InputError(path, f"holds another network: {'; '.join(pairs)}{more}", "name the folder of this network")


def write(folder: Path, items: dict[str, Any]) -> None:
    """An item a folder: where orbax's composite checkpoint fails, its threads go on waiting for minutes."""
    with one_line(), short_path(folder) as path, open_orbax() as checkpointer:
        for name, tree in items.items():
            checkpointer.save(path / name, args=ocp.args.StandardSave(tree))


def read(folder: Path, like: dict[str, Any]) -> dict[str, Any]:
    shapes = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    with one_line(), short_path(folder) as path, open_orbax() as checkpointer:
        restore = lambda name, tree: checkpointer.restore(path / name, args=ocp.args.StandardRestore(tree))
        return {name: restore(name, tree) for name, tree in shapes.items()}


@contextmanager
def short_path(folder: Path) -> Iterator[Path]:
    """Yields an absolute path to `folder` without the names of the directories above it.

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
    """This process by itself: orbax would wait for the others, who do not write."""
    mine = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"{mine}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


@contextmanager
def one_line() -> Iterator[None]:
    """Raises OSError for a ValueError, in which orbax quotes the disk's error among two thousand characters."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else 0
        raise OSError(number, os.strerror(number) if code else " ".join(str(error).split())[:100]) from error


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of trees hold the same bytes."""
    equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes(), one, other)
    return all(jax.tree.leaves(equal))
