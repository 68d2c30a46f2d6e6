"""Kills and signals at any time of a pipeline of tiny models or of `quick`. Restarted with the same command, or with
the one that it printed, it must end in results identical to those of an undisturbed pipeline."""

import hashlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxnets.runs import open_run
from tests.faults.trial import Trial

ROOT = Path(__file__).parents[2]
OPTIONS = ["--preset", "smoke", "--data", "digits", "--out"]
QUICK = ["--preset", "quick", "--data", "mnist", "--out"]


def start(command: list[str], cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)}
    if "quick" not in command:  # tiny models take longer to compile than to train
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, **pipes)  # type: ignore[call-overload, no-any-return]


def pipeline(out: Path, options: list[str] = OPTIONS) -> list[str]:
    return [sys.executable, "-m", "experiments.pipeline", *options, str(out)]


def bits(out: Path) -> dict[str, str]:
    """Return the hashes of all results: weights and statistics, predictions, the submission."""
    hashes = {path: hashlib.sha256((out / path).read_bytes()).hexdigest() for path in ("submission.csv",)}
    for path in sorted(
        [*out.glob("predictions/*/*.npz"), *out.glob("ensemble/*.npz"), *out.glob("pseudo_labels/*.npz")]
    ):
        with np.load(path) as file:
            joined = b"".join(file[name].tobytes() for name in sorted(file.files))
        hashes[str(path.relative_to(out))] = hashlib.sha256(joined).hexdigest()
    for member in sorted((out / "members").iterdir()):
        run = open_run(member)
        leaves = [np.asarray(leaf).tobytes() for tree in (run.params, run.stats) for leaf in sorted_leaves(tree)]
        hashes[member.name] = hashlib.sha256(b"".join(leaves)).hexdigest()
    return hashes


def sorted_leaves(tree: object) -> list[object]:
    import jax

    return jax.tree.leaves(tree)


def whole(folder: Path, options: list[str] = OPTIONS, times: int = 2) -> dict[str, str]:
    """Return the results of an undisturbed pipeline, run twice so that compiled programs are cached for the others."""
    for name in ("whole", "first")[:times][::-1]:
        process = start(pipeline(folder / name, options), folder / "cache")
        assert process.wait() == 0, process.communicate()[1]
    return bits(folder / "whole")


def kills(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Run one pipeline after the other, each killed every few seconds until it finishes."""
    desired, done = whole(folder), 0
    while done < trials:
        moments = iter(lambda: rng.uniform(1, 25), None)
        for trial in killed(folder, pipeline(folder / f"killed-{done}"), moments, desired):
            done += trial.struck
            yield trial


def quick_kills(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Run one pipeline of several minutes, kill it `trials` times, and let it finish."""
    desired = whole(folder, QUICK, times=1)
    yield from killed(folder, pipeline(folder / "killed", QUICK), iter(rng.uniform(5, 60, trials)), desired)


def killed(folder: Path, command: list[str], moments: Iterator[float], desired: dict[str, str]) -> Iterator[Trial]:
    """Trials of one pipeline: killed each time when it has run for the next of `moments`, until it comes to its end."""
    while True:
        process = start(command, folder / "cache")
        try:
            _, stderr = process.communicate(timeout=next(moments, None))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            yield Trial(True)
    failure = stderr or ("" if bits(Path(command[-1])) == desired else "other results")
    yield Trial(False, f"exit {process.returncode}: {failure}" if process.returncode or failure else "")


def signals(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Send SIGINT or SIGTERM at any time, and run the command that is printed."""
    desired, done = whole(folder), 0
    while done < trials:
        out, command = folder / f"stopped-{done}", None
        while True:
            process = start(command or pipeline(out), folder / "cache")
            number = rng.choice([signal.SIGINT, signal.SIGTERM])
            try:
                _, stderr = process.communicate(timeout=rng.uniform(4, 25))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            failure = ""
            try:
                _, stderr = process.communicate(timeout=20)
                lines = stderr.splitlines()
                command = shlex.split(lines[-1])
                if process.returncode != 128 + number or not lines[-2].startswith("stopped: "):
                    failure = f"exit {process.returncode}: {stderr}"
            except (subprocess.TimeoutExpired, IndexError):
                process.kill()
                failure = "it did not end within 20 s"
            done += 1
            yield Trial(True, failure)
        failure = stderr or ("" if bits(out) == desired else "other results")
        yield Trial(False, f"exit {process.returncode}: {failure}" if process.returncode or failure else "")
