"""What the training of one network is put together from: `fit` saves it epoch by epoch, speedruns and ablations keep
it in memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import optax
from flax import nnx

from jaxnets.devices import AXIS, Devices
from jaxnets.models.functional import split
from jaxnets.runs import RunConfig, build, init_arrays
from jaxnets.training.optimizer import learning_rate, make_optimizer
from jaxnets.training.order import batch_order
from jaxnets.training.parallel import Epoch, compile_epoch
from jaxnets.training.step import Examples, TrainState, init_state, make_train_step


class TrainLoop(NamedTuple):
    """`steps` are those of an epoch, `rate` the learning rate by step. start(seed) -> the untrained state;
    order(seed, epoch) -> rows (S, B) of the examples; compile(devices, state, examples) -> epoch (see `parallel`)."""

    graphdef: nnx.GraphDef
    steps: int
    rate: optax.Schedule
    start: Callable[[int], TrainState]
    order: Callable[[int, int], np.ndarray]
    compile: Callable[[Devices, TrainState, Examples], Epoch]


def make_train_loop(config: RunConfig, rows: int, *, stretch: int = 1) -> TrainLoop:
    """For `rows` training examples. Warm-up and cosine are made for a training `stretch` times as long."""
    training = config.recipe.training
    steps = rows // training.batch_size
    total_steps = training.epochs * steps
    optimizer = make_optimizer(training, stretch * total_steps)
    graphdef, _, _ = split(nnx.eval_shape(lambda: build(config, axis_name=AXIS)))

    def start(seed: int) -> TrainState:
        _, params, stats = init_arrays(replace(config, seed=seed), axis_name=AXIS)
        return init_state(params, stats, optimizer, seed=seed)

    def order(seed: int, epoch: int) -> np.ndarray:
        return batch_order(rows, training.batch_size, seed=seed, epoch=epoch)

    def compile(devices: Devices, state: TrainState, examples: Examples) -> Epoch:
        step = make_train_step(graphdef, optimizer, training, precision=config.precision)
        return compile_epoch(step, devices, state, examples, order(0, 0), steps=total_steps)

    return TrainLoop(graphdef, steps, learning_rate(training, stretch * total_steps), start, order, compile)
