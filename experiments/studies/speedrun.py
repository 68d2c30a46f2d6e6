"""Trains one network to a mean test accuracy of 99.0, 99.5 or 99.7 % on MNIST as fast as it can, over several seeds.
The clock runs from arrays in memory to the last weights; compiling comes before it and is stated apart."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from experiments.cli.console import percent, say, show_table
from experiments.cli.options import MANY, Options, run, start_jax
from experiments.cli.paths import writable_file
from jaxnets import data, recipes
from jaxnets.config import Recipe, to_json
from jaxnets.errors import InputError
from jaxnets.store.atomic import write_json

if TYPE_CHECKING:
    from jaxnets.devices import Devices


@dataclass(frozen=True, kw_only=True)
class SpeedrunOptions:
    target: Literal["99.0", "99.5", "99.7"] = "99.0"
    """Mean test accuracy in per cent."""
    runs: int = 5
    """How many networks, each from a seed of its own."""
    seed: int = 0
    """Of the first one."""
    validate: bool = False
    """Train without the last 5,000 training rows and score those instead of the test rows: for tuning."""
    devices: int | None = None
    """How many devices to use: all unless given."""
    data: str = "mnist"
    """mnist, or digits for a try."""
    out: Path | None = None
    """File of the figures: under checkpoints/, speedrun-TARGET.json, unless given; with the name of the data or of the
    validation rows in it, where it is not MNIST's test rows that are scored."""


class Result(NamedTuple):
    seconds: float
    accuracy: float


def race(
    recipe: Recipe, digits: data.Digits, devices: "Devices", precision: str, seeds: range
) -> tuple[float, Iterator[Result]]:
    """-> seconds of compiling, and each seed's result; digits' test rows are the ones scored. DivergedError, at that
    result, where answers are not finite."""
    import jax

    from jaxnets.devices import replicate
    from jaxnets.inference.ensemble import accuracy
    from jaxnets.inference.predict import make_predict, require_finite
    from jaxnets.runs import RunConfig
    from jaxnets.training.loop import make_train_loop
    from jaxnets.training.parallel import check_batch
    from jaxnets.training.step import one_hot_examples

    training, rows = recipe.training, len(digits.x_train)
    check_batch(training.batch_size, rows, devices)
    config = RunConfig.of(recipe, digits, seed=seeds[0], precision=precision)
    labels = np.asarray(digits.y_test)
    examples = one_hot_examples(digits.x_train, digits.y_train, digits.num_classes)
    begin = time.perf_counter()
    parts = make_train_loop(config, rows)
    run_epoch = parts.compile(devices, *replicate((parts.start(seeds[0]), examples), devices))
    compile_seconds = time.perf_counter() - begin
    predict = make_predict(parts.graphdef, devices)

    def results() -> Iterator[Result]:
        for seed in seeds:
            state = jax.block_until_ready(parts.start(seed))
            begin = time.perf_counter()
            state, resident = replicate((state, examples), devices)
            for epoch in range(training.epochs):
                state, _ = run_epoch(state, resident, parts.order(seed, epoch), lambda steps, metrics: False)
            jax.block_until_ready(state)
            seconds = time.perf_counter() - begin
            log_probs = predict(state.average["params"], state.average["stats"], digits.x_test)
            yield Result(seconds, accuracy(require_finite(log_probs, f"seed {seed}"), labels))

    return compile_seconds, results()


def without_test_rows(digits: data.Digits) -> data.Digits:
    """The last 5,000 training rows, a tenth of small sets, in the place of the test rows."""
    held = min(5000, len(digits.x_train) // 10)
    x, y = digits.x_train, digits.y_train
    return digits._replace(x_train=x[:-held], y_train=y[:-held], x_test=x[-held:], y_test=y[-held:])


def main(options: SpeedrunOptions) -> None:
    for name, value, least, most in (("runs", options.runs, 1, MANY), ("seed", options.seed, 0, 2**31 - MANY - 1)):
        if not least <= value <= most:
            raise InputError(f"--{name}", f"is {value}", f"give a whole number from {least} to {most}")
    rows = "validation" if options.validate else "test"
    scored = "" if (options.data, rows) == ("mnist", "test") else f"-{options.data}-{rows}"
    out = options.out or Path("checkpoints") / f"speedrun-{options.target}{scored}.json"
    digits = data.load(options.data)
    if options.validate:
        digits = without_test_rows(digits)
    if digits.y_test is None:
        raise InputError("--data", f"{options.data} has no test labels to score", "give --validate, or mnist")
    writable_file(out)
    start_jax(Options())
    from jaxnets.devices import choose_devices, default_precision

    devices = choose_devices(options.devices)
    precision = default_precision(devices)
    recipe = recipes.speedrun(float(options.target))
    seeds = range(options.seed, options.seed + options.runs)
    compile_seconds, results = race(recipe, digits, devices, precision, seeds)
    say(f"{recipe.family}, {len(devices)} {devices[0].device_kind}, {precision}; compiled in {compile_seconds:.1f} s")
    done: list[Result] = []
    report = {
        "target": float(options.target),
        "data": options.data,
        "rows": rows,
        "recipe": to_json(recipe),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "precision": precision,
        "packages": {name: version(name) for name in ("jax", "flax", "numpy")},
        "compile_seconds": compile_seconds,
    }
    for seed, result in zip(seeds, results, strict=True):
        done.append(result)
        say(f"seed {seed}: {result.seconds:.2f} s, {percent(result.accuracy)}")
        times = {"seeds": [*seeds][: len(done)], "seconds": [one.seconds for one in done]}
        write_json(out, report | times | {"accuracies": [one.accuracy for one in done]})
    show(options.target, rows, done, compile_seconds)
    say(f"{out}")


def show(target: str, rows: str, done: list[Result], compile_seconds: float) -> None:
    seconds, accuracies = (np.array(values) for values in zip(*done, strict=True))
    spread = lambda values: float(values.std(ddof=1)) if len(values) > 1 else 0.0
    times = f"{seconds.mean():.2f} ± {spread(seconds):.2f}"
    mean = f"{accuracies.mean():.2%} ± {100 * spread(accuracies):.2f}"
    reached = "yes" if 100 * accuracies.mean() >= float(target) else "no"
    title = f"Mean and standard deviation of {len(done)} networks"
    columns = ["", "seconds", f"{rows} accuracy", "reached", "compiling s"]
    show_table(title, columns, [[f"{target} %", times, mean, reached, f"{compile_seconds:.1f}"]])


if __name__ == "__main__":
    run(main, SpeedrunOptions, resumes=False)
