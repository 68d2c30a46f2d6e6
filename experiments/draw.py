"""Opens a local page on which the user draws a digit and sees at once what every pretrained model predicts."""

import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json

from .cli.console import say
from .cli.options import Options, run, start_jax

if TYPE_CHECKING:
    from .demo.predictor import Predictor

TIMED_PREDICTIONS = 50
"""Number of predictions that are timed at the start."""


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    port: int = 8028
    """Port on 127.0.0.1, which other machines cannot reach. 0: any free port."""
    browser: bool = True
    """Open the page in the browser."""


def published_accuracies(names: list[str]) -> dict[str, float | None]:
    """Return the accuracies on MNIST's test images, without test-time augmentation, of these models and of scratch."""
    from jaxnets.store.weights import PRETRAINED

    results = {name: read_json(PRETRAINED / name / "result.json") for name in [*names, "scratch"]}
    return {name: result.get("test_accuracy", result.get("test_accuracy_mean")) for name, result in results.items()}


def describe(predictor: "Predictor") -> dict[str, Any]:
    """Return what the page shows besides predictions: accuracies, and below which confidence it is not sure."""
    return {"accuracies": published_accuracies(predictor.names), "threshold": predictor.calibration.threshold}


def open_browser(address: str) -> None:
    """Open the page in a process that has no terminal: a text browser would occupy ours and wait there."""
    command, none = [sys.executable, "-m", "webbrowser", address], subprocess.DEVNULL
    browser = subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)
    threading.Thread(target=browser.wait, daemon=True).start()


def main(options: DrawOptions) -> None:
    for name in ("starlette", "uvicorn"):
        if not find_spec(name):
            raise InputError("experiments.draw", f"{name} is not installed", "pip install -e '.[demo]'")
    from jaxnets.devices import choose_devices

    from .demo.server import HOST, listen, make_app, serve

    choose_devices(None)
    with listen(options.port) as listener:
        port = listener.getsockname()[1]
        say("preparing the models: a minute the first time, seconds later")
        begin = time.perf_counter()
        start_jax(Options())
        from .demo.predictor import load_all

        predictor = load_all()
        predictor.milliseconds(1)
        ready = time.perf_counter() - begin
        times = predictor.milliseconds(TIMED_PREDICTIONS)
        timing = f"{statistics.median(times):.1f} ms (median of {len(times)}, slowest {times[-1]:.1f})"
        say(f"ready in {ready:.1f} s; a prediction takes {timing}")
        address = f"http://{HOST}:{port}/"
        say(f"{address} can be opened on this machine only; Ctrl-C closes it")
        if options.browser:
            open_browser(address)
        serve(make_app(predictor, describe(predictor), port=port), listener)


if __name__ == "__main__":
    run(main, DrawOptions, resumes=False)
