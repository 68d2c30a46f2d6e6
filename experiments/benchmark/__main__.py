"""Times the five families against PyTorch, torch.compile and Keras on the same work, one process each, in turn; this
machine's limits, 1 to N devices, starting up, and the network of scratch. A table, and a JSON file of every figure.

`--parts sweep` times training steps of many sizes instead and marks those far slower than similar ones. `--parts gpu`
compiles for GPUs or TPUs, which need not be there, and counts what a step would do; it needs `.[cuda13]` or `.[tpu]`.
"""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.recipes import FAMILIES
from jaxnets.store.atomic import write_json

from ..cli.console import percent, say, show_table
from ..cli.options import NamedPreset, run
from ..cli.paths import writable_file
from ..cli.presets import check_families

Part = Literal["families", "devices", "start", "scratch", "sweep", "gpu"]
TargetName = Literal["h100x1", "h100x2", "h100x8", "t4x1", "t4x2", "v5ex4"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    parts: tuple[Part, ...] = ("families", "devices", "start", "scratch")
    """What to time."""
    families: tuple[str, ...] = FAMILIES
    """Which networks."""
    preset: NamedPreset = "quick"
    """Whose sizes, batch and augmentation the networks have. The sweep has its own sizes."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the computation; auto is the hardware's best."""
    rounds: int = 5
    """How often each piece of work is timed, in turn."""
    steps: int = 30
    """Training steps a round."""
    epochs: int = 20
    """Of each training of scratch's network."""
    threads: int | None = None
    """Of every library for scratch's network; unless given, scratch takes one and the others what they choose."""
    data: Literal["mnist", "digits"] = "mnist"
    """digits for a try."""
    target: tuple[TargetName, ...] = ("h100x2", "t4x2")
    """GPUs or TPUs that the part gpu compiles for, and how many of them."""
    out: Path = Path("checkpoints/benchmark.json")
    """The figures: one file a part, named after this one."""


def packages() -> dict[str, str]:
    modules = {"jax": "jax", "flax": "flax", "numpy": "numpy", "torch": "torch", "keras": "keras"}
    modules["scikit-learn"] = "sklearn"
    return {name: version(name) for name, module in modules.items() if find_spec(module)}


def race_settings(options: BenchmarkOptions) -> Any:
    from .race import Settings

    return Settings(options.preset, options.precision, options.rounds, options.steps)


def time_families(options: BenchmarkOptions, digits: data.Digits) -> dict[str, Any]:
    from .race import race

    libraries = [name for name in ("torch", "torch.compile", "keras") if find_spec(name.split(".")[0])]
    name_missing("torch", "keras")
    results = {}
    for family in options.families:
        results[family] = race(family, race_settings(options), digits, libraries)
        show_family(family, results[family])
        save(options, "families", results)
    return results


def name_missing(*libraries: str) -> None:
    for name in libraries:
        if not find_spec(name):
            say(f"{name} is left out, as it is not installed: pip install -e '.[bench]'")


def show_family(family: str, result: dict[str, Any]) -> None:
    """One row a library: images a second at each work, and how many times PyTorch's or Keras' figure ours is."""
    rows = []
    for library, figures in result["libraries"].items():
        row = [library]
        for work in ("step", "loop", "infer", "tta"):
            if work not in figures.get("works", {}):
                row.append("-")
                continue
            timed = figures["works"][work]
            ratio = "" if library == "jaxnets" else f"  {timed['jaxnets_times']:.2f}x"
            row.append(f"{timed['images_per_second']:,.0f}{ratio}")
        memory = figures.get("device_bytes") or figures.get("host_bytes")
        rows.append([*row, f"{memory / 2**20:,.0f}" if memory else "-", f"{figures.get('ready_seconds', 0):.0f}"])
    title = f"{family}: images/s, median; how many times that jaxnets does; {percent(result['share_of_peak'])} of peak"
    show_table(title, ["", "step", "loop", "infer", "tta", "MiB", "ready s"], rows)


def time_devices(options: BenchmarkOptions, digits: data.Digits) -> dict[str, Any]:
    from .race import race_devices

    result = race_devices(options.families[0], race_settings(options), digits)
    rows = [[n, f"{loop['images_per_second']:,.0f}", f"{1 / loop['jaxnets_times']:.2f}x"] for n, loop in result.items()]
    show_table(f"{options.families[0]}: training loop", ["devices", "images/s", "of one"], rows)
    return result


def time_start(options: BenchmarkOptions, digits: data.Digits) -> dict[str, Any]:
    from .startup import starts

    result = starts(options.rounds)
    result |= {f"reading {options.data}": [timed_reading(options.data) for _ in range(options.rounds)]}
    show_table("Starting", ["", "seconds"], [[name, f"{np.median(seconds):.2f}"] for name, seconds in result.items()])
    return result


def timed_reading(name: str) -> float:
    begin = time.perf_counter()
    data.load(name)
    return time.perf_counter() - begin


def time_scratch(options: BenchmarkOptions, digits: data.Digits) -> dict[str, Any]:
    from .mlp import TRAINERS, compare

    name_missing(*TRAINERS)
    results = compare(digits, rounds=options.rounds, epochs=options.epochs, threads=options.threads)
    ours = np.array(results["scratch"]["seconds"])
    rows = []
    for name, result in results.items():
        result["times_scratch"] = float(np.median(np.array(result["seconds"]) / ours))
        low, middle, high = np.quantile(result["seconds"], [0, 0.5, 1])
        times = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rows.append([name, times, f"{result['times_scratch']:.2f} x", percent(result["test_accuracy"])])
    show_table(f"{options.epochs} epochs on {options.data}", ["", "seconds", "scratch's time", "test accuracy"], rows)
    return results


def time_sweep(options: BenchmarkOptions, digits: data.Digits) -> list[dict[str, Any]]:
    from .sweep import mark_slow, sweep

    rows: list[dict[str, Any]] = []
    for row in sweep(options.families, digits, precision=options.precision, rounds=options.rounds):
        rows.append(row)
        mark_slow(rows)
        save(options, "sweep", rows)
        say(" ".join(sweep_cells(row)))
    columns = ["family", "width", "depth", "stem stride", "batch", "images/s", "GFLOP/s", ""]
    show_table(f"Training steps in {rows[0]['precision']}", columns, list(map(sweep_cells, rows)))
    return rows


def sweep_cells(row: dict[str, Any]) -> list[str]:
    sizes = [str(row[name]) for name in ("family", "width", "depth", "stem_stride", "batch_size")]
    return [*sizes, f"{row['images_per_second']:,.0f}", f"{row['gflops']:,.0f}", "slow" if row["slow"] else ""]


def compile_for_accelerators(options: BenchmarkOptions, digits: data.Digits) -> dict[str, Any]:
    from jaxnets.recipes import preset

    from .compiled import compile_family
    from .race import measure_training
    from .targets import TARGETS, missing_extra, open_target

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # what is measured runs in another process
    results: dict[str, Any] = {}
    for name in options.target:
        chip, count = TARGETS[name]
        if extra := missing_extra(chip):
            say(f"{name} is left out, as its compiler is not installed: pip install -e '.[{extra}]'")
            continue
        target = open_target(name, options.precision)
        programs = []
        for family in options.families:
            training, inference = compile_family(preset(options.preset).recipe(family), digits, target)
            seconds = measure_training(family, race_settings(options), digits, chip.name, count)
            programs += [training._replace(measured_seconds=seconds), inference]
            results[name] = [program.row() for program in programs]
            save(options, "gpu", results)
        show_compiled(f"{name}, {options.preset}, {target.precision}", programs)
    return results


def show_compiled(title: str, programs: list[Any]) -> None:
    from .compiled import table

    for work in ("training", "inference"):
        chosen = [program for program in programs if program.work == work]
        names = ["", *(program.family for program in chosen)]
        show_table(f"{title}: compiled {work}, per step and device", names, table(chosen))


PARTS = {
    "families": time_families,
    "devices": time_devices,
    "start": time_start,
    "scratch": time_scratch,
    "sweep": time_sweep,
    "gpu": compile_for_accelerators,
}


def main(options: BenchmarkOptions) -> None:
    from jaxnets.recipes import preset

    threads = 1 if options.threads is None else options.threads
    counts = {"rounds": options.rounds, "steps": options.steps, "epochs": options.epochs, "threads": threads}
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"--{name}", f"is {value}", "give a whole number of at least 1")
    for name, values in (("parts", options.parts), ("families", options.families), ("target", options.target)):
        if not values:
            raise InputError(f"--{name}", "names none", "name at least one, or leave it out for all")
    check_families(preset(options.preset), options.families, option="--families")
    digits = data.load(options.data)
    writable_file(options.out)
    for part in options.parts:
        say(f"{part} ...")
        if result := PARTS[part](options, digits):
            say(f"{save(options, part, result)}")


def save(options: BenchmarkOptions, part: str, results: Any) -> Path:
    """Writes a part's figures, families one after the other -> where."""
    report = {"settings": settings(options), "python": platform.python_version(), "packages": packages()}
    name = f"{part}-{options.preset}" if part in ("families", "gpu") else part
    name += f"-{options.precision}" if part in ("families", "sweep", "gpu") and options.precision != "auto" else ""
    path = options.out.with_stem(f"{options.out.stem}-{name}")
    write_json(path, report | {"results": results})
    return path


def settings(options: BenchmarkOptions) -> dict[str, Any]:
    shown = ("preset", "families", "precision", "rounds", "steps", "epochs", "threads", "data")
    return {name: getattr(options, name) for name in shown}


if __name__ == "__main__":
    run(main, BenchmarkOptions, resumes=False)
