"""Training and inference compiled for accelerators that are not there: what a step would launch, compute and move, and
from it a lower bound and a model of its time. Nothing here is measured."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.config import ModelRecipe
from jaxnets.data import Digits
from jaxnets.devices import Devices, shard_rows
from jaxnets.inference.predict import ACCELERATOR_BATCH, map_predict
from jaxnets.runs import RunConfig
from jaxnets.training.loop import TrainLoop
from jaxnets.training.parallel import STEPS_PER_CALL, map_loop
from jaxnets.training.step import Examples

from . import hlo
from .targets import Gpu, Target

LAUNCH_SECONDS = 3e-6
"""Assumed time from one launch to the next if the device has little to do in each."""
COLLECTIVE_SECONDS = 15e-6
"""Assumed time of an all-reduce of a few numbers within a host."""
COMPUTE_SHARE = 0.2
"""Assumed fraction of the peak that small convolutions reach."""


class Compiled(NamedTuple):
    """One program: a training step of a loop, or the inference of a batch; per device."""

    family: str
    work: str
    images: int
    """Per step, of all devices together."""
    counts: hlo.Counts
    temporary_bytes: int
    argument_bytes: int
    device_bytes: int
    compile_seconds: float
    bound_seconds: float
    predicted_seconds: float | None
    """None for TPUs: a step is one program there, and how full its units are is not known."""
    measured_seconds: float | None = None
    """Of a step, if this machine has the target's devices."""

    def row(self) -> dict[str, Any]:
        """Return all figures, for a JSON file."""
        values = self._asdict()
        counts = values.pop("counts")
        return values | counts._asdict()


def compile_family(recipe: ModelRecipe, digits: Digits, target: Target) -> list[Compiled]:
    """Compile a family's training loop on these examples, and its inference."""
    config = RunConfig.of(recipe, digits, seed=0, precision=target.precision)
    loop = TrainLoop(config=config, num_rows=len(digits.x_train))
    state = shapes_of(loop.init(0))
    batch = ACCELERATOR_BATCH * len(target.devices)
    training = lower_training(loop, state, digits, target.devices)
    inference = lower_inference(loop, state, digits, target.devices)
    return [
        compile_work(recipe.family, "training", recipe.training.batch_size, training, target),
        compile_work(recipe.family, "inference", batch, inference, target),
    ]


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


def lower_training(loop: TrainLoop, state: Any, digits: Digits, devices: Devices) -> Any:
    """Lower the loop that `fit` runs on accelerators."""
    rows = len(digits.x_train)
    targets, weights = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((rows, digits.num_classes), (rows,)))
    examples = Examples(shapes_of(digits.x_train), targets, weights)
    order = loop.order(0, 0)[:STEPS_PER_CALL]
    indices = shard_rows(np.arange(order.shape[1]), devices)
    arguments = (state, examples, shard_rows(order, devices), indices, np.int32(len(order)))
    with jax.default_device(devices[0]):
        return map_loop(loop.train_step, devices, len(order)).lower(*arguments)


def lower_inference(loop: TrainLoop, state: Any, digits: Digits, devices: Devices) -> Any:
    """Lower the model's call that `make_predict` runs on accelerators, without the warp of a view."""
    shape = (len(devices), ACCELERATOR_BATCH, *digits.x_train.shape[1:])
    _, forward = map_predict(loop.graphdef, devices)
    with jax.default_device(devices[0]):
        return forward.lower(state.params, state.stats, jax.ShapeDtypeStruct(shape, np.float32))


def compile_work(family: str, work: str, images: int, lowered: Any, target: Target) -> Compiled:
    begin = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - begin
    memory = program.memory_analysis()
    counts = hlo.count(program.as_text())
    return Compiled(
        family=family,
        work=work,
        images=images,
        counts=counts,
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        device_bytes=target.chip.memory,
        compile_seconds=seconds,
        bound_seconds=lower_bound(counts, target),
        predicted_seconds=predict_seconds(counts, target),
    )


def lower_bound(counts: hlo.Counts, target: Target) -> float:
    """Return the roofline's bound of a step (Williams et al. 2009): the slowest of arithmetic at the peak, memory, and
    the links. Memory is counted as if every launch read its operands whole from there: caches, and launches that read a
    part of an operand, can beat it."""
    arithmetic = counts.flops / target.chip.peaks[target.precision]
    return max(arithmetic, counts.accessed_bytes / target.chip.bandwidth, link_seconds(counts, target))


def link_seconds(counts: hlo.Counts, target: Target) -> float:
    """Return how long the bytes of the all-reduces take in a ring."""
    devices = len(target.devices)
    return 2 * (devices - 1) / devices * counts.reduced_bytes / target.chip.link


def predict_seconds(counts: hlo.Counts, target: Target) -> float | None:
    """Return the model of a step's time on GPUs: its launches or the work in them, whichever takes longer, and its
    all-reduces."""
    if not isinstance(target.chip, Gpu):
        return None
    work = counts.flops / (COMPUTE_SHARE * target.chip.peaks[target.precision])
    work += counts.accessed_bytes / target.chip.bandwidth
    launching = LAUNCH_SECONDS * (counts.launches - counts.all_reduces)
    return max(launching, work) + COLLECTIVE_SECONDS * counts.all_reduces + link_seconds(counts, target)


ROWS: dict[str, Callable[[Compiled], str]] = {
    "convs (by cuDNN)": lambda it: f"{it.counts.convolutions} ({it.counts.library_convolutions})",
    "fusions": lambda it: str(it.counts.fusions),
    "launches": lambda it: str(it.counts.launches),
    "all-reduces (BN)": lambda it: f"{it.counts.all_reduces} ({it.counts.batch_norm_all_reduces})",
    "all-reduced, kB": lambda it: f"{it.counts.reduced_bytes / 1e3:,.0f}",
    "host transfers": lambda it: str(it.counts.host_transfers),
    "GFLOP": lambda it: f"{it.counts.flops / 1e9:.1f}",
    "accessed, MB": lambda it: f"{it.counts.accessed_bytes / 1e6:,.0f}",
    "temporaries, MiB": lambda it: f"{it.temporary_bytes / 2**20:,.0f}",
    "arguments, MiB": lambda it: f"{it.argument_bytes / 2**20:,.0f}",
    "share of memory": lambda it: f"{(it.temporary_bytes + it.argument_bytes) / it.device_bytes:.2%}",
    "compiling, s": lambda it: f"{it.compile_seconds:.0f}",
    "bound, ms": lambda it: f"{1e3 * it.bound_seconds:.3f}",
    "predicted, ms": lambda it: f"{1e3 * it.predicted_seconds:.3f}" if it.predicted_seconds else "-",
    "images/s": lambda it: f"{it.images / it.predicted_seconds:,.0f}" if it.predicted_seconds else "-",
    "measured, ms": lambda it: f"{1e3 * it.measured_seconds:.3f}" if it.measured_seconds else "-",
}
"""A table's rows: their name, and the text of one program's figure."""


def table(programs: list[Compiled]) -> list[list[str]]:
    """Return one column per program after that of the names."""
    return [[name, *map(text, programs)] for name, text in ROWS.items()]
