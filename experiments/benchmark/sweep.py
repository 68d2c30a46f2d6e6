"""The speed of a training step of each family at many sizes, and which sizes are far slower than similar ones."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import data, recipes
from jaxnets.config import ModelRecipe
from jaxnets.devices import choose_devices, default_precision, replicate
from jaxnets.runs import RunConfig
from jaxnets.training.loop import TrainLoop
from jaxnets.training.parallel import MIN_STEPS_TO_OPTIMIZE
from jaxnets.training.step import one_hot_examples

from ..tools.list_models import describe

DEPTHS = {"resnet": (1, 2), "deep_cnn": (6, 10), "wide_cnn": (3, 5), "inception": (1, 2), "senet": (1, 2)}
WIDTHS, STEM_STRIDES, BATCH_SIZES = (16, 32, 64), (1, 2), (32, 64, 128)
SLOW = 0.4
"""A size is slow if its rate is below this fraction of the median of its neighbours."""


class Size(NamedTuple):
    family: str
    width: int
    depth: int
    stem_stride: int
    batch_size: int


def sizes_of(family: str) -> list[Size]:
    axes = WIDTHS, DEPTHS[family], STEM_STRIDES, BATCH_SIZES
    return [Size(family, *values) for values in itertools.product(*axes)]


def sweep(families: tuple[str, ...], digits: data.Digits, *, precision: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield one row per size as soon as it is timed; GFLOP/s are three times XLA's count for the forward pass."""
    devices = choose_devices(None)
    precision = default_precision(devices) if precision == "auto" else precision
    for size in itertools.chain.from_iterable(map(sizes_of, families)):
        recipe = recipe_of(size)
        seconds = time_step(RunConfig.of(recipe, digits, seed=0, precision=precision), digits, devices, rounds)
        speed = size.batch_size / seconds
        yield {
            **size._asdict(),
            "images_per_second": speed,
            "gflops": 3 * describe(recipe)["flops"] * speed / 1e9,
            "precision": precision,
        }


def recipe_of(size: Size) -> ModelRecipe:
    training = replace(
        recipes.quick().recipe(size.family).training, batch_size=size.batch_size, epochs=MIN_STEPS_TO_OPTIMIZE
    )
    sizes = {"width": size.width, "depth": size.depth, "stem_stride": size.stem_stride}
    return ModelRecipe(family=size.family, sizes=sizes, training=training)


def time_step(config: RunConfig, digits: data.Digits, devices: Any, rounds: int) -> float:
    """Return the seconds per training step with augmentation: the median of `rounds` pairs of steps, after a first."""
    rows = slice(2 * config.recipe.training.batch_size)
    loop = TrainLoop(config=config, num_rows=len(digits.x_train[rows]))
    examples = one_hot_examples(digits.x_train[rows], digits.y_train[rows], digits.num_classes)
    state, examples = replicate((loop.init(0), examples), devices)
    run_epoch = loop.compile(devices, state, examples)
    seconds = []
    for _ in range(1 + rounds):
        begin = time.perf_counter()
        state, *_ = jax.block_until_ready(run_epoch(state, examples, loop.order(0, 0)))
        seconds.append((time.perf_counter() - begin) / loop.steps_per_epoch)
    return float(np.median(seconds[1:]))


def mark_slow(rows: list[dict[str, Any]]) -> None:
    """Sets row["slow"]: its GFLOP/s are below SLOW times the median of the rows that differ by one step in one size."""
    rates = {Size(*(row[name] for name in Size._fields)): row["gflops"] for row in rows}
    for row, (size, rate) in zip(rows, rates.items(), strict=True):
        near = [rates[other] for other in sizes_of(size.family) if other in rates and distance(size, other) == 1]
        row["slow"] = bool(near) and rate < SLOW * float(np.median(near))


def distance(size: Size, other: Size) -> int:
    axes = WIDTHS, DEPTHS[size.family], STEM_STRIDES, BATCH_SIZES
    return sum(abs(axis.index(a) - axis.index(b)) for axis, a, b in zip(axes, size[1:], other[1:], strict=True))
