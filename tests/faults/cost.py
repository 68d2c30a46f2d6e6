"""The time of a sealed save and restore compared with orbax' own, for a million parameters with Adam's two moments:
`python -m tests.faults.cost`. Medians of alternating pairs; nothing else should run meanwhile."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from jaxnets.store import checkpoint
from jaxnets.store.weights import flatten_named

PAIRS = 15
LAYERS, SHAPE = 28, (3, 3, 64, 64)


def main() -> None:
    rng = np.random.default_rng(0)
    items = {"state": {name: random_params(rng) for name in ("params", "mu", "nu")}}
    size = sum(leaf.nbytes for leaf in flatten_named(items).values())
    print(f"{size / 3e6 / 4:.2f} M parameters, {size / 1e6:.1f} MB; medians of {PAIRS} pairs, in ms")
    with tempfile.TemporaryDirectory() as folder:
        sealed_dir, plain_dir = Path(folder, "sealed"), Path(folder, "plain")
        rows = {
            "save": (
                lambda n: checkpoint.save(sealed_dir, n, items, {}),
                lambda n: save(plain_dir / str(n), items["state"]),
            ),
            "restore": (
                lambda n: checkpoint.restore(sealed_dir, items),
                lambda n: ocp.StandardCheckpointer().restore(plain_dir / str(n), items["state"]),
            ),
            "finite?": (lambda n: [np.isfinite(leaf).all() for leaf in flatten_named(items).values()], lambda n: None),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for n in range(PAIRS + 1):
            for name, (sealed, plain) in rows.items():
                pair = (sealed, plain) if n % 2 else (plain, sealed)
                seconds = [clock(call, n) for call in pair]
                times[name].append((seconds[1 - n % 2], seconds[n % 2]))
            shutil.rmtree(plain_dir / str(n - 1), ignore_errors=True)  # checkpoint.save removes old ones itself
    print(f"{'':<8} sealed   plain  ratio")
    for name, taken in times.items():
        sealed, plain = 1e3 * np.median(taken[1:], axis=0)  # the first warms up
        ratio = np.median([one / other for one, other in taken[1:]]) if name != "finite?" else None
        print(f"{name:<8} {sealed:6.1f}  " + (f"{plain:6.1f}  {ratio:5.2f}" if ratio else "     -      -"))


def random_params(rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Return LAYERS layers of random kernels and zero biases."""
    layers = {}
    for number in range(LAYERS):
        kernel, bias = rng.random(SHAPE, np.float32), np.zeros(SHAPE[-1], np.float32)
        layers[f"layer{number}"] = {"kernel": kernel, "bias": bias}
    return layers


def save(path: Path, tree: Any) -> None:
    """Save as orbax does by itself."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()


def clock(call: Callable[[int], Any], number: int) -> float:
    begin = time.perf_counter()
    call(number)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
