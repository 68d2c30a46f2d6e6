"""Injects faults many times and counts the failures: `python -m tests.faults [--full] [NAME ...]`.

The fast size takes some minutes, the full size hours. If interrupted, the same command continues.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.faults import (
    attacks,
    divergence,
    downloads,
    endings,
    endurance,
    entries,
    mutate,
    peers,
    pipelines,
    resumption,
    sealing,
    store,
)

PROTOCOLS = {
    "kill -9 anywhere in the pipeline": (pipelines.kills, 8, 100),
    "kill -9 in the pipeline of quick": (pipelines.quick_kills, 2, 20),
    "signals anywhere in the pipeline": (pipelines.signals, 4, 50),
    "an error at every call of a save": (store.errors, 20, 1000),
    "a kill at every call of a save": (store.kills, 20, 1000),
    "an error at every call of committing a model": (sealing.errors, 100, 1000),
    "a kill at every call of committing a model": (sealing.kills, 100, 1000),
    "a damaged file of a step": (store.damages, 50, 500),
    "a full disk at any size": (store.full_disks, 10, 60),
    "not finite at any leaf": (store.infinities, 10, 50),
    "not finite at any step of a training": (divergence.trainings, 5, 50),
    "not finite in a member of an ensemble": (divergence.ensembles, 4, 20),
    "stopped after any step and resumed": (resumption.every_step, 4, 80),
    "any ending, at any step": (endings.endings, 7, 140),
    "leaks of training steps": (endurance.steps, 5, 100),
    "leaks of saves": (endurance.saves, 15, 300),
    "leaks of pipelines": (endurance.pipelines, 2, 5),
    "two writers in one directory": (store.writers, 10, 50),
    "a process that dies, stalls or raises": (peers.losses, 3, 60),
    "invalid files and arguments": (entries.rejections, 15, 300),
    "unusual valid files": (entries.acceptances, 3, 12),
    "a file changed at random": (mutate.mutations, 300, 10_000),
    "downloads, killed or two at once": (downloads.downloads, 3, 30),
    "hostile requests to the page": (attacks.hostile, 45, 400),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of protocols (default: all)")
    parser.add_argument("--full", action="store_true", help="as many trials as before a release")
    parser.add_argument("--out", type=Path, help="JSON file of the counts; protocols in it are not run again")
    options = parser.parse_args()
    done = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {}
    wanted = [name for name in PROTOCOLS if not options.names or any(part in name for part in options.names)]
    for name in wanted:
        if name not in done:
            done[name] = count(name, full=options.full)
            if options.out:
                options.out.write_text(json.dumps(done, indent=1) + "\n")
    print(f"{'protocol':<44} trials  struck  failures  seconds")
    for name in wanted:
        counts = done[name]
        print(
            f"{name:<44} {counts['trials']:6}  {counts['struck']:6}  {len(counts['failures']):8}  {counts['seconds']:7}"
        )
    sys.exit(any(done[name]["failures"] for name in wanted))


def count(name: str, *, full: bool) -> dict[str, object]:
    """Run a protocol -> the number of trials, how often the fault struck, and the failures."""
    protocol, fast, many = PROTOCOLS[name]
    begin, struck, failures, trials = time.perf_counter(), 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        for trial in protocol(Path(folder), np.random.default_rng(0), many if full else fast):
            trials += 1
            struck += trial.struck
            failures += [trial.failure] if trial.failure else []
            print(f"\r{name}: {trials} trials, {struck} struck, {len(failures)} failures ", end="", flush=True)
            if trial.failure:
                print(f"\n  {trial.failure}")
    print()
    return {"trials": trials, "struck": struck, "failures": failures, "seconds": round(time.perf_counter() - begin)}


if __name__ == "__main__":
    main()
