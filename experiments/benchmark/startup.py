"""How long it takes from the shell to something happening, each in its own process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_STEPS = [sys.executable, "-m", "experiments.train", "--preset", "smoke", "--data", "digits", "--family", "resnet"]


def starts(rounds: int) -> dict[str, list[float]]:
    """-> seconds a round: the usage line, the smoke preset's ResNet on digits with an empty compilation cache, and
    again with what the first run left there."""
    seconds: dict[str, list[float]] = {"pipeline --help": [], "a network, nothing compiled yet": [], "again": []}
    for _ in range(rounds):
        seconds["pipeline --help"].append(timed([sys.executable, "-m", "experiments.pipeline", "--help"]))
        with tempfile.TemporaryDirectory() as folder:
            cache = {"XDG_CACHE_HOME": folder}
            for number, name in enumerate(("a network, nothing compiled yet", "again")):
                out = Path(folder) / f"run{number}"
                seconds[name].append(timed([*FIRST_STEPS, "--out", str(out)], cache))
    return seconds


def timed(command: list[str], environment: dict[str, str] | None = None) -> float:
    """CalledProcessError if the command fails."""
    begin = time.perf_counter()
    subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin
