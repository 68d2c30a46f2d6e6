"""The directory in which JAX keeps compiled programs between starts. JAX runs them without a check."""

import os
import re
import stat
import warnings
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError

DAMAGED = re.compile("Error reading persistent compilation cache entry for '([^']*)'")
"""JAX's warning of a damaged entry; the group is the name of the function."""
MIN_COMPILE_SECONDS = 0.3
"""Programs that compile faster are not kept."""


def use_cache(folder: Path) -> None:
    """Make JAX keep compiled programs in `folder`, or warn if that cannot be created. Raises InputError if another user
    can write to it."""
    import jax

    try:
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owner(path)
    except OSError as error:
        problem = f"cannot be made ({error.strerror}), so programs are compiled at every start"
        warnings.warn(f"{folder}: {problem}", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    replace_damaged(folder)


def check_owner(folder: Path) -> None:
    """Raise InputError if the directory belongs to another user, or if its mode lets others write to it."""
    found = folder.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    fix = "remove it, or set XDG_CACHE_HOME to a directory of your own"
    raise InputError(folder, "can be written by other users, and compiled programs in it are run", fix)


def replace_damaged(folder: Path) -> None:
    """Remove a damaged entry, with those of the same function, when JAX warns of it: JAX itself replaces no file."""
    show = warnings.showwarning

    def show_and_remove(message: Warning | str, *rest: Any, **more: Any) -> None:
        found = DAMAGED.match(str(message))
        if found:
            for path in folder.glob(f"{found[1]}-*"):
                path.unlink(missing_ok=True)
            message = f"{folder}: the entry of {found[1]} is damaged; it is compiled again"
        show(message, *rest, **more)

    warnings.showwarning = show_and_remove
