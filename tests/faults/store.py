"""Disk errors, kills and concurrent writers while checkpoints are saved.

Whatever happens, the newest step whose save returned still exists, every listed step has the right values, and the
next save works.
"""

import errno
import io
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import DivergedError, InputError
from jaxnets.store.checkpoint import restore, save, saved_steps
from jaxnets.store.lock import locked
from tests.faults.trial import Trial

PURE = {"fspath", "cpu_count", "getpid", "urandom", "_path_normpath", "_path_splitroot", "readable", "writable"}
"""Built-in functions that never access a disk."""
METADATA: dict[str, Any] = {"history": []}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["jaxnets.store.checkpoint", "jaxnets.store.train_rows"])


def tree(value: int) -> dict[str, Any]:
    rng = np.random.default_rng(value)
    return {
        "average": {"kernel": rng.random((40, 30), np.float32)},
        "rest": {"step": np.int32(value), "m": rng.random(99)},
    }


def filled(folder: Path) -> Path:
    for step in (1, 2):
        save(folder, step, tree(step), METADATA)
    return folder


def wrong(folder: Path, acknowledged: int) -> str:
    """Return what is wrong with checkpoints whose last acknowledged step is this one; empty if nothing is."""
    found = saved_steps(folder)
    if not found or found[-1] < acknowledged:
        return f"step {acknowledged} was acknowledged, {found} are there"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            held = restore(folder, tree(0))
            if held is None or not equal(held.items, tree(found[-1])):
                return f"step {found[-1]} holds other numbers"
            save(folder, 1000, tree(1000), METADATA)
            held = restore(folder, tree(0))
        if held is None or not equal(held.items, tree(1000)) or len(list(folder.iterdir())) > 2:
            return "the next save failed, or temporary files remain"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def equal(trees: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(trees[tree][name], other[tree][name]) for tree in other for name in other[tree])


def strike(number: int, fault: Callable[[], object]) -> list[int]:
    """Call `fault` before the number-th system call from now on. Returns a list with the count of calls so far."""
    seen = [0]

    def hook(frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and reaches_disk(function) and "importlib" not in frame.f_code.co_filename:
            seen[0] += 1
            if seen[0] == number:
                fault()

    threading.setprofile(hook)
    sys.setprofile(hook)
    return seen


def reaches_disk(function: Any) -> bool:
    if getattr(function, "__name__", "") in PURE:
        return False
    of_file = isinstance(getattr(function, "__self__", None), io.IOBase)
    return of_file or function is io.open or getattr(function, "__module__", "") in ("posix", "fcntl")


def disk_error() -> None:
    raise OSError(errno.EIO, "Input/output error")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Work(NamedTuple):
    """The work that is interrupted.

    prepare(folder) returns the checkpoints' folder. start(folder, begin) calls begin() and does the work; an error
    makes it raise one of `ends`. wrong(folder, done) returns what is wrong after a restart; `done` is whether start
    returned.
    """

    prepare: Callable[[Path], Path]
    start: Callable[[Path, Callable[[], list[int]]], None]
    wrong: Callable[[Path, bool], str]
    ends: tuple[type[Exception], ...] = (InputError,)


class Outcome(NamedTuple):
    """The number of system calls, whether the work was done, and any unexpected error."""

    calls: int
    done: bool
    failure: str


def attempt(work: Work, store: Path, number: int, fault: Callable[[], object], results: Any) -> None:
    """Do the work with a fault at one of its system calls, in a child process."""
    seen: list[list[int]] = []
    done, failure = False, ""
    try:
        work.start(store, lambda: seen.append(strike(number, fault)))
        done = True
    except work.ends:
        pass
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    sys.setprofile(None)
    results.put(Outcome(seen[0][0], done, failure))


def outcome(work: Work, store: Path, number: int, fault: Callable[[], object]) -> Outcome:
    results = CONTEXT.Queue()
    worker = CONTEXT.Process(target=attempt, args=(work, store, number, fault, results))
    worker.start()
    worker.join(60)
    if worker.is_alive():
        worker.kill()
        return Outcome(number, False, "it hangs")
    return Outcome(number, False, "") if worker.exitcode == -signal.SIGKILL else results.get(timeout=10)


def every_call(
    folder: Path, rng: np.random.Generator, trials: int, *, work: Work, fault: Callable[[], object]
) -> Iterator[Trial]:
    """Inject a fault at every system call from Python, or at `trials` of them, evenly spaced."""
    calls = outcome(work, work.prepare(folder / "whole"), sys.maxsize, fault).calls
    for number in np.linspace(1, calls, min(trials, calls)).round().astype(int).tolist():
        store = work.prepare(folder / str(number))
        ended = outcome(work, store, number, fault)
        failure = ended.failure or work.wrong(store, ended.done)
        yield Trial(ended.calls >= number, f"call {number} of {calls}: {failure}" if failure else "")


def copied(folder: Path) -> Path:
    """Return a copy of a folder that `filled` wrote once for all trials."""
    original = folder.parent / "original"
    if not original.is_dir():
        filled(original)
    shutil.copytree(original, folder)
    return folder


def save_third(store: Path, begin: Callable[[], object]) -> None:
    begin()
    save(store, 3, tree(3), METADATA)


def wrong_after(store: Path, done: bool) -> str:
    return wrong(store, 3 if done else 2)


SAVING = Work(copied, save_third, wrong_after)
errors, kills = (partial(every_call, work=SAVING, fault=fault) for fault in (disk_error, kill))


def damages(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Delete, truncate, extend or partly zero a file, or flip a bit: the step before is used, with one warning."""
    store = filled(folder / "store")
    files = sorted(path for path in (store / "2").rglob("*") if path.is_file())
    kinds = ("delete", "cut", "empty", "append", "zero", *["flip"] * 5)
    for _ in range(trials):
        path, kind = files[rng.integers(len(files))], str(rng.choice(kinds))
        content = path.read_bytes()
        damage(path, kind, rng)
        changed = not path.exists() or path.read_bytes() != content
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            held = restore(store, tree(0))
        right = held is not None and equal(held.items, tree(1 if changed else 2))
        named = [str(warning.message) for warning in caught]
        if changed and not (len(named) == 1 and str(store / "2") in named[0]):
            right = False
        yield Trial(changed, "" if right else f"{kind} {path.name}: {named}")
        path.write_bytes(content)


def damage(path: Path, kind: str, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    number = int(rng.integers(max(len(content), 1)))
    if kind == "delete":
        path.unlink()
        return
    if kind == "flip" and content:
        content[number] ^= 1 << int(rng.integers(8))
    elif kind == "zero":
        content[number : number + 4096] = bytes(len(content[number : number + 4096]))
    changed = {"cut": content[: len(content) // 2], "empty": b"", "append": content + b"\0"}
    path.write_bytes(changed.get(kind, content))


def save_within(folder: Path, limit: int, results: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        save(folder, 3, tree(3), METADATA)
        results.put((False, ""))
    except InputError as error:
        results.put((True, "" if "\n" not in str(error) and "MiB" in str(error) else str(error)))
    except Exception as error:
        results.put((True, f"{type(error).__name__}: {error}"))


def full_disks(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Limit the size of files, from no bytes to more than any has."""
    for trial in range(trials):
        store, results = filled(folder / str(trial)), CONTEXT.Queue()
        limit = trial * 8000 // trials
        worker = CONTEXT.Process(target=save_within, args=(store, limit, results))
        worker.start()
        worker.join(60)
        struck, failure = results.get(timeout=10) if worker.exitcode == 0 else (True, f"exit {worker.exitcode}")
        failure = failure or wrong(store, 2 if struck else 3)
        yield Trial(struck, f"limit {limit}: {failure}" if failure else "")


def infinities(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    store = filled(folder / "store")
    for _ in range(trials):
        items = tree(3)
        leaf = items["average"]["kernel"] if rng.random() < 0.5 else items["rest"]["m"]
        leaf.flat[rng.integers(leaf.size)] = rng.choice([np.nan, np.inf, -np.inf])
        try:
            save(store, 3, items, METADATA)
            yield Trial(True, "it was saved")
        except DivergedError:
            yield Trial(True, "" if saved_steps(store) == [1, 2] else f"{saved_steps(store)} are there")


def hold(path: Path, ready: Any) -> None:
    with locked(path):
        ready.set()
        signal.pause()


def writers(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """A second writer fails at once with the first one's process ID; a killed holder leaves the lock free."""
    for trial in range(trials):
        path, ready = folder / f"{trial}.lock", CONTEXT.Event()
        holder = CONTEXT.Process(target=hold, args=(path, ready))
        holder.start()
        ready.wait(60)
        begin, failure = time.perf_counter(), ""
        try:
            with locked(path):
                failure = "both hold the lock"
        except InputError as error:
            failure = "" if f"process {holder.pid} on " in str(error) else str(error)
        if time.perf_counter() - begin > 2:
            failure = "it took more than two seconds"
        holder.kill()
        holder.join()
        try:
            with locked(path):
                pass
        except InputError:
            failure = "the lock of a killed process is held"
        yield Trial(True, failure)
