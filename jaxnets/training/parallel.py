"""How the steps of an epoch are compiled and run on the devices: the only module that maps a step over them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.compilation import compile_optimized
from jaxnets.devices import AXIS, Devices, shard_rows
from jaxnets.errors import InputError
from jaxnets.training.step import Examples, Step, TrainState

Metrics = dict[str, np.ndarray]
"""The metrics of S steps by name, (S,) each; see `step.make_train_step`."""
StepCallback = Callable[[int, Metrics], bool]
"""on_step(steps, metrics) is called once per finished step, or per call of several steps: with the number of steps
finished so far and the metrics of the latest. If it returns True, the epoch ends early."""


class EpochResult(NamedTuple):
    """`metrics` of the steps that were run; `stopped` is True if the callback returned True."""

    state: TrainState
    metrics: Metrics
    stopped: bool


RunEpoch = Callable[..., EpochResult]
"""run_epoch(state, examples, order (S, B), on_step) trains one step per row of `order`, which are indices of examples.
State and examples lie on the devices (see `replicate`); the state is donated. `on_step` may be left out."""

STEPS_PER_CALL = 64
"""Steps that an accelerator runs per call: a few seconds at most, so that a training can be stopped in time."""

MIN_STEPS_TO_OPTIMIZE = 1500
"""Steps of a whole training from which it takes longer than compiling it with `compile_optimized`."""


def keep_going(steps: int, metrics: Metrics) -> bool:
    """The step callback that never stops an epoch."""
    return False


def check_batch(batch_size: int, num_rows: int, devices: Devices) -> None:
    """Raise InputError unless a batch divides into whole MixUp pairs on all devices, and the rows fill a batch."""
    unit = 2 * len(devices)
    if batch_size % unit:
        nearest = max(unit, batch_size // unit * unit)
        problem = f"{batch_size} does not divide into pairs on {len(devices)} devices"
        raise InputError("batch_size", problem, f"give a multiple of {unit}, {nearest} for instance")
    if num_rows < batch_size:
        raise InputError("batch_size", f"{batch_size} is more than the {num_rows} training rows", "make it smaller")


def compile_epoch(
    train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray, *, total_steps: int
) -> RunEpoch:
    """Compile an epoch for arguments of these shapes, and for fewer steps than the S of order (S, B).

    An accelerator runs STEPS_PER_CALL steps per call. A CPU runs one: inside a loop XLA's CPU backend computes a
    convolution's weight gradient 13 to 190 times slower. `total_steps` is the length of the whole training, which
    decides whether a CPU's program is worth optimizing.
    """
    if devices[0].platform != "cpu":
        return compile_loop(train_step, devices, state, examples, order)
    optimize = total_steps >= MIN_STEPS_TO_OPTIMIZE
    return compile_steps(train_step, devices, state, examples, order, optimize=optimize)


def compile_loop(
    train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray
) -> RunEpoch:
    """Compile an epoch as calls of STEPS_PER_CALL steps each; see `compile_epoch`."""
    size = min(STEPS_PER_CALL, len(order))
    indices = shard_rows(np.arange(order.shape[1]), devices)
    arguments = (state, examples, shard_rows(order[:size], devices), indices, np.int32(size))
    run = compile_ahead(map_loop(train_step, devices, size), arguments, devices)

    def run_epoch(
        state: TrainState, examples: Examples, order: np.ndarray, on_step: StepCallback = keep_going
    ) -> EpochResult:
        history: list[Metrics] = []
        stopped = False
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            padded = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
            state, metrics = run(state, examples, shard_rows(padded, devices), indices, np.int32(len(rows)))
            history.append({name: values[: len(rows)] for name, values in jax.device_get(metrics).items()})
            if stopped := on_step(first + len(rows), history[-1]):
                break
        return EpochResult(state, concatenate(history), stopped)

    return run_epoch


def map_loop(train_step: Step, devices: Devices, size: int) -> Any:
    """Return the loop of at most `size` steps as a function that is mapped over the devices:

    loop(state, examples, order (D, size, B / D), indices (D, B / D), count) -> state, metrics (size,).
    """

    def loop(state: TrainState, examples: Examples, order: jax.Array, indices: jax.Array, count: jax.Array) -> Any:
        def run_step(state: TrainState, rows: jax.Array) -> Any:
            return train_step(state, gather(examples, rows), indices)

        def body(i: jax.Array, carry: Any) -> Any:
            state, history = carry
            state, metrics = run_step(state, order[i])
            return state, jax.tree.map(lambda values, value: values.at[i].set(value), history, metrics)

        _, metrics = jax.eval_shape(run_step, state, order[0])
        history = jax.tree.map(lambda value: jnp.zeros(size, value.dtype), metrics)
        return jax.lax.fori_loop(0, count, body, (state, history))

    axes = (None, None, 0, 0, None)
    return jax.pmap(loop, AXIS, in_axes=axes, out_axes=None, donate_argnums=0, devices=list(devices))


def compile_steps(
    train_step: Step,
    devices: Devices,
    state: TrainState,
    examples: Examples,
    order: np.ndarray,
    *,
    optimize: bool = False,
) -> RunEpoch:
    """Compile an epoch as one call per step; see `compile_epoch`."""
    indices = shard_rows(np.arange(order.shape[1]), devices)

    def prepare(key: jax.Array, step: jax.Array, examples: Examples, rows: jax.Array, indices: jax.Array) -> Any:
        return train_step.prepare(key, step, gather(examples, rows), indices)

    # Two programs: in one, XLA's CPU backend fuses the warps into the first convolution and computes them several
    # times. It also keeps the larger program independent of the number of examples.
    pmap = partial(jax.pmap, axis_name=AXIS, devices=list(devices))
    prepare_batch = pmap(prepare, in_axes=(None, None, None, 0, 0))
    mapped = pmap(train_step.update, in_axes=(None, 0, 0), out_axes=None, donate_argnums=0)

    def batch(state: TrainState, examples: Examples, rows: np.ndarray) -> Any:
        return prepare_batch(state.key, state.step, examples, shard_rows(rows, devices), indices)

    update = compile_ahead(mapped, (state, *batch(state, examples, order[0])), devices, optimize=optimize)

    def run_step(state: TrainState, examples: Examples, rows: np.ndarray) -> Any:
        state, metrics = update(state, *batch(state, examples, rows))
        if len(devices) > 1:  # queued collectives of several CPU devices can deadlock
            jax.block_until_ready(metrics)
        return state, metrics

    return partial(run_steps, run_step)


def run_steps(
    run_step: Callable[..., Any],
    state: TrainState,
    examples: Examples,
    order: np.ndarray,
    on_step: StepCallback = keep_going,
) -> EpochResult:
    """Run an epoch with one call of `run_step` per row of `order`.

    The callback of a step is called while the next step runs, so an epoch that it stops includes that next step.
    """
    history: list[Metrics] = []

    def finish_step(metrics: Any) -> bool:
        history.append(jax.tree.map(lambda value: np.asarray(value)[None], metrics))
        return on_step(len(history), history[-1])

    state, running = run_step(state, examples, order[0])
    stopped = False
    for rows in order[1:]:
        state, following = run_step(state, examples, rows)
        stopped, running = finish_step(running), following
        if stopped:
            break
    stopped = finish_step(running) or stopped
    return EpochResult(state, concatenate(history), stopped)


def compile_ahead(mapped: Any, arguments: tuple[Any, ...], devices: Devices, *, optimize: bool = False) -> Any:
    """Compile a mapped function for these arguments. With several processes JAX compiles it at its first call instead:
    ahead of time, each process would have to pass the arguments of all of them (jax 0.10 and 0.12)."""
    if jax.process_count() > 1:
        return mapped
    lowered = mapped.lower(*arguments)
    return compile_optimized(lowered, devices) if optimize else lowered.compile()


def gather(examples: Examples, rows: jax.Array) -> Examples:
    """Return the examples with these indices."""
    return Examples(*(array[rows] for array in examples))


def concatenate(history: list[Metrics]) -> Metrics:
    """Join the metrics of consecutive steps, (S,) each."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *history)
