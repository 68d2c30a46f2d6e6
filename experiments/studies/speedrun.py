"""Trains models to a mean test accuracy of 99.0, 99.5 or 99.7 % on MNIST as fast as it can, over several seeds. Times
run from arrays in memory to the last parameters; the time of compilation is reported separately."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jaxnets import data, recipes
from jaxnets.config import ModelRecipe, to_json
from jaxnets.errors import InputError
from jaxnets.store.atomic import write_json

from ..cli.console import percent, say, show_table
from ..cli.options import Options, check_count, check_seed, run, start_jax
from ..cli.paths import writable_file

if TYPE_CHECKING:
    from jaxnets.devices import Devices


@dataclass(frozen=True, kw_only=True)
class SpeedrunOptions:
    target: Literal["99.0", "99.5", "99.7"] = "99.0"
    """Mean test accuracy to reach, in per cent."""
    runs: int = 5
    """Number of trainings, with consecutive seeds."""
    seed: int = 0
    """Seed of the first training."""
    validate: bool = False
    """Hold out the last 5,000 training images and evaluate on them instead of the test images, for tuning."""
    devices: int | None = None
    """Number of devices to use (default: all)."""
    data: str = "mnist"
    """Data to train on: mnist, or digits for a quick try."""
    out: Path | None = None
    """File of the results (default: checkpoints/speedrun-TARGET.json; the name also contains the data and the evaluated
    images if these are not MNIST's test images)."""


class Result(NamedTuple):
    seconds: float
    accuracy: float


def race(
    recipe: ModelRecipe, digits: data.Digits, devices: "Devices", precision: str, seeds: range
) -> tuple[float, Iterator[Result]]:
    """Return the seconds that compiling takes and an iterator over the results of the seeds, on digits' test images.

    The iterator raises DivergedError if a prediction is not finite.
    """
    import jax

    from jaxnets.devices import replicate
    from jaxnets.inference.ensemble import accuracy
    from jaxnets.inference.predict import make_predict, require_finite
    from jaxnets.runs import RunConfig
    from jaxnets.training.loop import TrainLoop
    from jaxnets.training.parallel import check_batch
    from jaxnets.training.step import one_hot_examples

    check_batch(recipe.training.batch_size, len(digits.x_train), devices)
    config = RunConfig.of(recipe, digits, seed=seeds[0], precision=precision)
    labels = np.asarray(digits.y_test)
    examples = one_hot_examples(digits.x_train, digits.y_train, digits.num_classes)
    begin = time.perf_counter()
    loop = TrainLoop(config=config, num_rows=len(digits.x_train))
    run_epoch = loop.compile(devices, *replicate((loop.init(seeds[0]), examples), devices))
    compile_seconds = time.perf_counter() - begin
    predict = make_predict(loop.graphdef, devices)

    def results() -> Iterator[Result]:
        for seed in seeds:
            state = jax.block_until_ready(loop.init(seed))
            begin = time.perf_counter()
            state, resident = replicate((state, examples), devices)
            for epoch in range(loop.training.epochs):
                state, *_ = run_epoch(state, resident, loop.order(seed, epoch))
            jax.block_until_ready(state)
            seconds = time.perf_counter() - begin
            log_probs = predict(state.ema["params"], state.ema["stats"], digits.x_test)
            yield Result(seconds, accuracy(require_finite(log_probs, f"seed {seed}"), labels))

    return compile_seconds, results()


def without_test_rows(digits: data.Digits) -> data.Digits:
    """Replace the test images by the last 5,000 training images, by a tenth of them in small sets."""
    count = min(5000, len(digits.x_train) // 10)
    x, y = digits.x_train, digits.y_train
    return digits._replace(x_train=x[:-count], y_train=y[:-count], x_test=x[-count:], y_test=y[-count:])


def check_options(options: SpeedrunOptions) -> None:
    check_count("--runs", options.runs)
    check_seed(options.seed)


def load_digits(options: SpeedrunOptions) -> data.Digits:
    """Return the data, with the images to evaluate on as its test images."""
    digits = data.load(options.data)
    if options.validate:
        digits = without_test_rows(digits)
    if digits.y_test is None:
        raise InputError("--data", f"{options.data} has no test labels", "give --validate, or mnist")
    return digits


def main(options: SpeedrunOptions) -> None:
    check_options(options)
    rows = "validation" if options.validate else "test"
    suffix = "" if (options.data, rows) == ("mnist", "test") else f"-{options.data}-{rows}"
    out = options.out or Path("checkpoints") / f"speedrun-{options.target}{suffix}.json"
    digits = load_digits(options)
    writable_file(out)
    start_jax(Options())
    from jaxnets.devices import choose_devices, default_precision

    devices = choose_devices(options.devices)
    precision = default_precision(devices)
    recipe = recipes.speedrun(float(options.target))
    seeds = range(options.seed, options.seed + options.runs)
    compile_seconds, results = race(recipe, digits, devices, precision, seeds)
    say(f"{recipe.family}, {len(devices)} {devices[0].device_kind}, {precision}; compiled in {compile_seconds:.1f} s")
    report: dict[str, Any] = {
        "target": float(options.target),
        "data": options.data,
        "rows": rows,
        "recipe": to_json(recipe),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "precision": precision,
        "packages": {name: version(name) for name in ("jax", "flax", "numpy")},
        "compile_seconds": compile_seconds,
        "seeds": [],
        "seconds": [],
        "accuracies": [],
    }
    for seed, result in zip(seeds, results, strict=True):
        report["seeds"].append(seed)
        report["seconds"].append(result.seconds)
        report["accuracies"].append(result.accuracy)
        say(f"seed {seed}: {result.seconds:.2f} s, {percent(result.accuracy)}")
        write_json(out, report)
    show(report)
    say(f"{out}")


def show(report: dict[str, Any]) -> None:
    """Print the means and standard deviations of a speedrun's report."""
    accuracies = [100 * accuracy for accuracy in report["accuracies"]]
    reached = "yes" if np.mean(accuracies) >= report["target"] else "no"
    title = f"Mean and standard deviation of {len(accuracies)} trainings"
    columns = ["", "seconds", f"{report['rows']} accuracy, %", "reached", "compiling s"]
    compile_seconds = f"{report['compile_seconds']:.1f}"
    row = [f"{report['target']} %", mean_and_deviation(report["seconds"]), mean_and_deviation(accuracies), reached]
    show_table(title, columns, [[*row, compile_seconds]])


def mean_and_deviation(values: Sequence[float]) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    run(main, SpeedrunOptions, resumes=False)
