"""Kills and disk errors while a trained model's folder is committed.

The same command, started again, completes it and leaves no other files.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.lock import locked
from jaxnets.store.manifest import check_manifest, commit_folder, read_manifest
from jaxnets.store.train_rows import write_rows
from tests.faults.store import Work, disk_error, every_call, filled, kill


def unfinished(folder: Path) -> Path:
    """Prepare a trained model without manifest, after a kill during an earlier save."""
    original = folder.parent / "original"
    if not original.is_dir():
        filled(original / "state")
        (original / "state" / ".1.0123abcd.tmp").mkdir(parents=True)
    shutil.copytree(original, folder / ".model.unfinished")
    return folder


def finish(folder: Path, begin: Callable[[], object] = lambda: None) -> None:
    """Do what `experiments.train` does after the last epoch, and when it is started again."""
    begin()
    with locked(folder / ".model.lock"):
        if (folder / "model").is_dir():
            check_manifest(folder / "model")
            return
        write_rows(folder / ".model.unfinished", np.zeros((10, 8, 8, 1), np.uint8))
        commit_folder(folder / ".model.unfinished", folder / "model", {})


def wrong(folder: Path, done: bool) -> str:
    """Return what is wrong with the model after two more starts; empty if nothing is."""
    if done and not (folder / "model").is_dir():
        return "it returned, but the model is missing"
    try:
        finish(folder)
        finish(folder)
    except (InputError, OSError) as error:
        return str(error)
    if read_manifest(folder / "model")["files"] != read_manifest(folder.parent / "whole" / "model")["files"]:
        return "the manifest lists other files"
    found = sorted(path.name for path in folder.iterdir())
    return "" if found == ["model"] else f"{found} are left"


FINISHING = Work(unfinished, finish, wrong, ends=(InputError, OSError))
errors, kills = (partial(every_call, work=FINISHING, fault=fault) for fault in (disk_error, kill))
