"""How many training steps one dispatch runs, and over which devices: the only place that maps a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.devices import AXIS, Devices, compile_optimized, share
from jaxnets.errors import InputError
from jaxnets.training.step import Examples, Step, TrainState

Metrics = dict[str, np.ndarray]
Done = Callable[[int, Metrics], bool]
"""done(steps, metrics) hears of finished steps: how many they are by now, and the metrics (S,) of the latest. Where it
answers True, the epoch ends early."""
Epoch = Callable[[TrainState, Examples, np.ndarray, Done], tuple[TrainState, Metrics]]

PIECE = 64
"""Steps that an accelerator runs in one dispatch: seconds at most, so that a training can be stopped in time."""

LONG = 1500
"""Steps from which a training is longer than compiling it."""


def check_batch(batch_size: int, num_rows: int, devices: Devices) -> None:
    """InputError unless every device gets an equal share of whole MixUp pairs, and the rows fill a batch."""
    share = 2 * len(devices)
    if batch_size % share:
        nearest = max(share, batch_size // share * share)
        problem = f"{batch_size} does not divide into pairs on {len(devices)} devices"
        raise InputError("batch_size", problem, f"give a multiple of {share}, {nearest} for instance")
    if num_rows < batch_size:
        raise InputError(
            "batch_size", f"{batch_size} is more than the {num_rows} training rows", "give a smaller batch"
        )


def compile_epoch(
    train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray, *, steps: int = 0
) -> Epoch:
    """-> epoch(state, examples, order (S, B), done) -> state, metrics (S,) each, compiled for arguments of these
    shapes, and for fewer steps than the given S.

    `state` and `examples` lie on the devices already (see `replicate`); the state is donated. An accelerator runs PIECE
    steps in one dispatch. A CPU gets one step a dispatch: XLA's CPU backend runs a convolution's weight gradient 13 to
    190 times slower inside a loop. `steps` is how many there will be in all: LONG and more are worth a program that
    is compiled at every start.
    """
    if devices[0].platform != "cpu":
        return compile_loop(train_step, devices, state, examples, order)
    return compile_steps(train_step, devices, state, examples, order, long=steps >= LONG)


def compile_loop(train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray) -> Epoch:
    size = min(PIECE, len(order))

    def loop(state: TrainState, examples: Examples, order: jax.Array, places: jax.Array, count: jax.Array) -> Any:
        visit = lambda state, rows: train_step(state, take(examples, rows), places)

        def body(place: jax.Array, carry: Any) -> Any:
            state, new = visit(carry[0], order[place])
            return state, jax.tree.map(lambda all, one: all.at[place].set(one), carry[1], new)

        metrics = jax.tree.map(lambda one: jnp.zeros(size, one.dtype), jax.eval_shape(visit, state, order[0])[1])
        return jax.lax.fori_loop(0, count, body, (state, metrics))

    places = share(np.arange(order.shape[1]), devices)
    axes = (None, None, 0, 0, None)
    looped = jax.pmap(loop, AXIS, in_axes=axes, out_axes=None, donate_argnums=0, devices=list(devices))
    arguments = state, examples, share(order[:size], devices), places, np.int32(size)
    run = compile_ahead(looped, arguments, devices, long=False)

    def epoch(state: TrainState, examples: Examples, order: np.ndarray, done: Done) -> Any:
        history = []
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            padded = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
            state, metrics = run(state, examples, share(padded, devices), places, np.int32(len(rows)))
            history.append({name: values[: len(rows)] for name, values in jax.device_get(metrics).items()})
            if done(first + len(rows), history[-1]):
                break
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *history)

    return epoch


def compile_steps(
    train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray, *, long: bool = False
) -> Epoch:
    places = share(np.arange(order.shape[1]), devices)
    # Two programs: in one, XLA's CPU backend mixes the warps into the first convolution and computes them several
    # times over. And so the larger program does not depend on the number of examples.
    prepare = jax.pmap(
        lambda key, step, examples, rows, places: train_step.prepare(key, step, take(examples, rows), places),
        AXIS,
        in_axes=(None, None, None, 0, 0),
        devices=list(devices),
    )
    ready = lambda state, examples, rows: prepare(state.key, state.step, examples, share(rows, devices), places)
    mapped = jax.pmap(
        train_step.update, AXIS, in_axes=(None, 0, 0), out_axes=None, donate_argnums=0, devices=list(devices)
    )
    update = compile_ahead(mapped, (state, *ready(state, examples, order[0])), devices, long=long)

    def epoch(state: TrainState, examples: Examples, order: np.ndarray, done: Done) -> Any:
        history: list[Metrics] = []

        def tell(metrics: Any) -> bool:
            history.append(jax.tree.map(lambda value: np.asarray(value)[None], metrics))
            return done(len(history), history[-1])

        running = None
        for rows in order:
            state, metrics = update(state, *ready(state, examples, rows))
            if len(devices) > 1:  # queued collectives of several CPU devices lock up
                jax.block_until_ready(metrics)
            stop = running is not None and tell(running)  # of the step before, while this one runs
            running = metrics
            if stop:
                break
        tell(running)
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *history)

    return epoch


def compile_ahead(mapped: Any, arguments: tuple[Any, ...], devices: Devices, *, long: bool) -> Any:
    """The mapped function, compiled for such arguments; with several processes at its first call, as what is compiled
    ahead asks each of them for the arguments of all (jax 0.10 and 0.12)."""
    if jax.process_count() > 1:
        return mapped
    lowered = mapped.lower(*arguments)
    return compile_optimized(lowered, devices) if long else lowered.compile()


def take(examples: Examples, rows: jax.Array) -> Examples:
    return Examples(*(array[rows] for array in examples))
