"""Wrong files and arguments through the programs that take them: exit code 2, one line, nothing written, soon, and in
little memory."""

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
"""What lets root pass over permissions: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""


class Ended(NamedTuple):
    """`seconds` are those of the processors: who shares them does not matter."""

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


def bow() -> None:
    """The programs that root starts from here on need permissions, as everybody's do; 24 is PR_CAPBSET_DROP."""
    for capability in OVERRIDE:
        ctypes.CDLL(None).prctl(24, capability)


def listing(folder: Path) -> dict[str, str]:
    """What lies in a folder: the kind of each path, and the content of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = oct(path.lstat().st_mode) + (hashlib.sha256(path.read_bytes()).hexdigest() if plain else "")
    return found


def wrong(make: Make, folder: Path, job: Path) -> str:
    """What is wrong with how a program refuses its input; empty if nothing is."""
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


def refusals(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    bow()
    job = finished(folder / "job")
    names = list(CASES)
    for number in sorted(rng.permutation(len(names))[:trials]):
        name = names[number]
        failure = wrong(CASES[name], folder / "case", job)
        yield Trial(True, f"{name}: {failure}" if failure else "")
        shutil.rmtree(folder / "case")


def acceptances(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """What comes of an odd file is what comes of the plain one."""
    job = finished(folder / "job")
    plain = {kind: came_of(make, folder / kind, job) for kind, make in PLAIN.items()}
    odd = [(kind, name) for kind, makes in HARMLESS.items() for name in makes]
    for number in sorted(rng.permutation(len(odd))[:trials]):
        kind, name = odd[number]
        came = came_of(HARMLESS[kind][name], folder / f"{kind}-{name}", job)
        yield Trial(True, "" if came == plain[kind] else f"{kind}, {name}: {came}")


def came_of(make: Make, folder: Path, job: Path) -> tuple[int, str, dict[str, str]]:
    """Exit code, stderr, and the pictures and tables that a program leaves."""
    folder.mkdir()
    ended = start(make(folder, job), folder)
    kept = {path: text for path, text in listing(folder / "out").items() if path.endswith((".png", ".npz", ".csv"))}
    alike = {str(Path(path).relative_to(folder)): text for path, text in kept.items() if "metrics" not in path}
    return ended.code, ended.stderr, alike


def finished(job: Path) -> Path:
    """A job of one network, with its weights in a file beside it."""
    from jaxnets.runs import open_run
    from jaxnets.store.weights import write_weights

    for program in (["train", "--family", "wide_cnn"], ["predict"], ["ensemble"], ["evaluate"]):
        ended = start([*program, *SMOKE, *DIGITS, "--out", str(job)], job.parent)
        assert ended.code == 0, ended.stderr
    run = open_run(job / "members" / "wide_cnn-0")
    write_weights(job / "weights.npz", {"params": run.params, "stats": run.stats})
    return job
