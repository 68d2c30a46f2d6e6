"""Invalid files and arguments: programs exit with code 2 and one line, fast, in little memory, and write nothing."""

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.faults.cases import CASES, DIGITS, HARMLESS, PLAIN, SMOKE, Make
from tests.faults.pipelines import ROOT
from tests.faults.trial import Trial

LINE, SECONDS, MEGABYTES = 200, 10, 1000
HANGS = 200
OVERRIDE = (1, 2)
"""Capabilities with which root ignores permissions: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""


class Ended(NamedTuple):
    """How a program ended. `seconds` is CPU time, which does not depend on other processes."""

    code: int
    stderr: str
    seconds: float
    megabytes: float


def start(arguments: list[str], folder: Path) -> Ended:
    command = [sys.executable, "-m", f"experiments.{arguments[0]}", *arguments[1:]]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PYTHONPATH": str(ROOT)}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
    with tempfile.TemporaryFile() as stderr:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": stderr}
        process = subprocess.Popen(command, env=os.environ | environment, cwd=folder, **pipes)  # type: ignore[call-overload]
        alarm = threading.Timer(HANGS, process.send_signal, [signal.SIGKILL])
        alarm.start()
        _, status, usage = os.wait4(process.pid, 0)
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        text = stderr.read().decode(errors="replace")
    return Ended(process.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def drop_capabilities() -> None:
    """Make permissions apply to programs started from now on, even by root; 24 is PR_CAPBSET_DROP."""
    for capability in OVERRIDE:
        ctypes.CDLL(None).prctl(24, capability)


def listing(folder: Path) -> dict[str, str]:
    """Return the mode of each path in a folder, and the checksum of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = oct(path.lstat().st_mode) + (hashlib.sha256(path.read_bytes()).hexdigest() if plain else "")
    return found


def wrong(make: Make, folder: Path, job: Path) -> str:
    """Return what is wrong with how a program rejects its input; empty if nothing is."""
    folder.mkdir()
    arguments = make(folder, job)
    before = listing(folder)
    ended = start(arguments, folder)
    *warnings, line = ended.stderr.replace(str(folder), "").splitlines() or [""]
    short = len(line) <= LINE + longest_path(arguments)
    plain = line.startswith("error: ") and "Fix: " in line and all(text.startswith("warning: ") for text in warnings)
    if ended.code == 2 and plain and short and ended.seconds < SECONDS and ended.megabytes < MEGABYTES:
        changed = sorted(before.items() ^ listing(folder).items())
        return f"changed {changed[0][0]}" if changed else ""
    what = f"exit {ended.code}, {ended.seconds:.1f} s, {ended.megabytes:.0f} MB, {len(line)} characters"
    return f"{what}: ...{ended.stderr[-400:]}"


def longest_path(arguments: list[str]) -> int:
    return max((len(word) for word in arguments if word.endswith(".npz")), default=0)


def rejections(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    drop_capabilities()
    job = finished(folder / "job")
    names = list(CASES)
    for number in sorted(rng.permutation(len(names))[:trials]):
        name = names[number]
        failure = wrong(CASES[name], folder / "case", job)
        yield Trial(True, f"{name}: {failure}" if failure else "")
        shutil.rmtree(folder / "case")


def acceptances(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """An unusual file has the same results as the plain one."""
    job = finished(folder / "job")
    plain = {kind: results_of(make, folder / kind, job) for kind, make in PLAIN.items()}
    unusual = [(kind, name) for kind, makes in HARMLESS.items() for name in makes]
    for number in sorted(rng.permutation(len(unusual))[:trials]):
        kind, name = unusual[number]
        found = results_of(HARMLESS[kind][name], folder / f"{kind}-{name}", job)
        yield Trial(True, "" if found == plain[kind] else f"{kind}, {name}: {found}")


def results_of(make: Make, folder: Path, job: Path) -> tuple[int, str, dict[str, str]]:
    """Return a program's exit code, its stderr, and checksums of its figures and tables."""
    folder.mkdir()
    ended = start(make(folder, job), folder)
    kept = {path: text for path, text in listing(folder / "out").items() if path.endswith((".png", ".npz", ".csv"))}
    relative = {str(Path(path).relative_to(folder)): text for path, text in kept.items() if "metrics" not in path}
    return ended.code, ended.stderr, relative


def finished(job: Path) -> Path:
    """Run a job of one model. Writes the model's weights to a file in its folder too."""
    from jaxnets.runs import open_run
    from jaxnets.store.weights import write_weights

    for program in (["train", "--family", "wide_cnn"], ["predict"], ["ensemble"], ["evaluate"]):
        ended = start([*program, *SMOKE, *DIGITS, "--out", str(job)], job.parent)
        assert ended.code == 0, ended.stderr
    run = open_run(job / "members" / "wide_cnn-0")
    write_weights(job / "weights.npz", {"params": run.params, "stats": run.stats})
    return job
