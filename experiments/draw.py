"""Opens a page on which one draws a digit, and every network says what it reads, in the very moment: locally, with the
networks that come with the repository."""

import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from experiments.cli.console import say
from experiments.cli.options import Options, run, start_jax
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json

PREDICTIONS = 50
"""To time at the start."""


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    port: int = 8028
    """Of 127.0.0.1, which no other machine reaches; 0 stands for any free one."""
    browser: bool = True
    """Open the page in the browser."""


def about(names: list[str]) -> dict[str, Any]:
    """What the page says of the networks: their names and how good they are on MNIST's test images, plainly."""
    from jaxnets.store.weights import PRETRAINED

    results = {name: read_json(PRETRAINED / name / "result.json") for name in [*names, "scratch"]}
    accuracy = lambda result: result["test_accuracy"] if "test_accuracy" in result else result["test_accuracy_mean"]
    return {name: accuracy(result) for name, result in results.items()}


def open_browser(address: str) -> None:
    """Open the page in a process that has no terminal: a text browser would occupy ours and wait there."""
    command, none = [sys.executable, "-m", "webbrowser", address], subprocess.DEVNULL
    browser = subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)
    threading.Thread(target=browser.wait, daemon=True).start()


def main(options: DrawOptions) -> None:
    for name in ("starlette", "uvicorn"):
        if not find_spec(name):
            raise InputError("experiments.draw", f"{name} is not installed", "pip install -e '.[demo]'")
    from experiments.demo.server import HOST, listen, make_app, serve
    from jaxnets.devices import choose_devices

    choose_devices(None)
    with listen(options.port) as listener:
        port = listener.getsockname()[1]
        say("preparing the networks: a minute the first time, seconds later")
        begin = time.perf_counter()
        start_jax(Options())
        from experiments.demo.predictor import load_all

        predictor = load_all()
        predictor.milliseconds(1)
        ready = time.perf_counter() - begin
        times = predictor.milliseconds(PREDICTIONS)
        say(
            f"ready in {ready:.1f} s; a prediction takes {statistics.median(times):.1f} ms "
            f"(median of {len(times)}, slowest {times[-1]:.1f})"
        )
        address = f"http://{HOST}:{port}/"
        say(f"{address} is open to this machine alone; Ctrl-C closes it")
        if options.browser:
            open_browser(address)
        serve(make_app(predictor, about(predictor.names), port=port), listener)


if __name__ == "__main__":
    run(main, DrawOptions, resumes=False)
