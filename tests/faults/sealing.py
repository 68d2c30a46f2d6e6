"""Kills and disk errors while a finished network is sealed and renamed into place: the same command, started again,
leaves it complete, with nothing beside it."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.lock import locked
from jaxnets.store.manifest import check, read_seal, seal_into_place
from jaxnets.store.train_rows import write_rows
from tests.faults.store import Work, disk_error, every_call, filled, kill


def unfinished(folder: Path) -> Path:
    """A network that has been trained but not sealed, after a kill during an earlier save."""
    original = folder.parent / "original"
    if not original.is_dir():
        filled(original / "state")
        (original / "best" / ".1.0123abcd.tmp").mkdir(parents=True)
    shutil.copytree(original, folder / ".network.unfinished")
    return folder


def finish(folder: Path, begin: Callable[[], object] = lambda: None) -> None:
    """What `experiments.train` does after the last epoch, and when it is started again."""
    begin()
    with locked(folder / ".network.lock"):
        if (folder / "network").is_dir():
            check(folder / "network")
            return
        write_rows(folder / ".network.unfinished", np.zeros((10, 8, 8, 1), np.uint8))
        seal_into_place(folder / ".network.unfinished", folder / "network", {})


def wrong(folder: Path, done: bool) -> str:
    """What is wrong with the network after two more starts; empty if nothing is."""
    if done and not (folder / "network").is_dir():
        return "it ended well, and left no network"
    try:
        finish(folder)
        finish(folder)
    except (InputError, OSError) as error:
        return str(error)
    if read_seal(folder / "network")["files"] != read_seal(folder.parent / "whole" / "network")["files"]:
        return "other files are sealed"
    found = sorted(path.name for path in folder.iterdir())
    return "" if found == ["network"] else f"{found} are left"


FINISHING = Work(unfinished, finish, wrong, ends=(InputError, OSError))
errors, kills = (partial(every_call, work=FINISHING, fault=fault) for fault in (disk_error, kill))
