"""The training loop of one model, in memory. `fit` adds checkpoints, validation and a history."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import optax
from flax import nnx

from jaxnets.config import TrainConfig
from jaxnets.devices import AXIS, Devices
from jaxnets.models.functional import split
from jaxnets.runs import RunConfig, build, init_arrays
from jaxnets.training.optimizer import learning_rate, make_optimizer
from jaxnets.training.order import batch_order
from jaxnets.training.parallel import RunEpoch, compile_epoch
from jaxnets.training.step import Examples, Step, TrainState, init_state, make_train_step


@dataclass(frozen=True, kw_only=True)
class TrainLoop:
    """Trains models of one configuration on `num_rows` examples:

        loop = TrainLoop(config=config, num_rows=len(examples.images))
        state, examples = replicate((loop.init(seed), examples), devices)
        run_epoch = loop.compile(devices, state, examples)
        for epoch in range(loop.training.epochs):
            state, metrics, stopped = run_epoch(state, examples, loop.order(seed, epoch))

    Warm-up and cosine are those of a training `schedule_scale` times as long.
    """

    config: RunConfig
    num_rows: int
    schedule_scale: int = 1

    @property
    def training(self) -> TrainConfig:
        return self.config.recipe.training

    @property
    def steps_per_epoch(self) -> int:
        return self.num_rows // self.training.batch_size

    @property
    def total_steps(self) -> int:
        return self.training.epochs * self.steps_per_epoch

    @cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate as a function of the step."""
        return learning_rate(self.training, self.schedule_scale * self.total_steps)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        return make_optimizer(self.training, self.schedule_scale * self.total_steps)

    @cached_property
    def graphdef(self) -> nnx.GraphDef:
        graphdef, _, _ = split(nnx.eval_shape(lambda: build(self.config, axis_name=AXIS)))
        return graphdef

    @cached_property
    def train_step(self) -> Step:
        return make_train_step(self.graphdef, self.optimizer, self.training, precision=self.config.precision)

    def init(self, seed: int) -> TrainState:
        """Return the state of an untrained model, which depends on the seed alone."""
        _, params, stats = init_arrays(replace(self.config, seed=seed), axis_name=AXIS)
        return init_state(params, stats, self.optimizer, seed=seed)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the indices of the examples of each step of an epoch, (S, B) int32."""
        return batch_order(self.num_rows, self.training.batch_size, seed=seed, epoch=epoch)

    def compile(self, devices: Devices, state: TrainState, examples: Examples) -> RunEpoch:
        """Compile an epoch for arguments of these shapes, which lie on the devices; see `parallel.RunEpoch`."""
        order = self.order(0, 0)
        return compile_epoch(self.train_step, devices, state, examples, order, total_steps=self.total_steps)
