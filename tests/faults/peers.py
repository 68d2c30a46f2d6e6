"""One of several processes is killed or stalls: the others must end within seconds, and one process must continue."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.pipelines import OPTIONS, start
from tests.faults.trial import Trial

STALL = 5
TRAIN = [sys.executable, "-m", "experiments.train", "--family", "wide_cnn", *OPTIONS]
LAUNCH = [sys.executable, "-m", "experiments.cluster.launch", "--processes", "2", "--stall", str(STALL), "--"]


def losses(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    for trial in range(trials):
        out = folder / str(trial)
        number = (signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT)[trial % 3]
        process = start([*LAUNCH, *TRAIN, str(out)], folder / "cache")
        state = out / "members" / ".wide_cnn-0.unfinished" / "state"
        while not state.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        workers = sorted(map(int, found.stdout.split()))
        if len(workers) < 2 or process.poll() is not None:
            process.communicate()
            yield Trial(False)
            continue
        os.kill(workers[int(rng.integers(2))], number)
        begin = time.monotonic()
        _, stderr = process.communicate(timeout=60)
        seconds, allowed = time.monotonic() - begin, STALL + 1 if number == signal.SIGSTOP else 5
        failure = (
            "" if process.returncode == 75 and seconds < allowed else f"exit {process.returncode} in {seconds:.1f} s"
        )
        continued = start([*TRAIN, str(out)], folder / "cache")
        _, stderr = continued.communicate(timeout=120)
        yield Trial(True, failure or (f"continuing: {stderr}" if continued.returncode else ""))
