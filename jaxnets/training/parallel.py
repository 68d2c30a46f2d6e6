"""How many training steps one dispatch runs, and over which devices: the only place that maps a step."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.devices import AXIS, Devices, compile_for_long, share
from jaxnets.errors import InputError
from jaxnets.training.step import Examples, Step, TrainState

Epoch = Callable[[TrainState, Examples, np.ndarray, Callable[[int], None]], tuple[TrainState, dict[str, np.ndarray]]]

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
    shapes.

    `state` and `examples` lie on the devices already (see `replicate`); the state is donated; `done(steps)` is
    called as steps are finished. An accelerator runs all steps in one dispatch. A CPU gets one step a dispatch:
    XLA's CPU backend runs a convolution's weight gradient 13 to 190 times slower inside a loop. `steps` is how many
    there will be in all: LONG and more are worth a program that is compiled at every start.
    """
    if devices[0].platform != "cpu":
        return compile_scan(train_step, devices, state, examples, order)
    return compile_steps(train_step, devices, state, examples, order, long=steps >= LONG)


def compile_scan(train_step: Step, devices: Devices, state: TrainState, examples: Examples, order: np.ndarray) -> Epoch:
    def scan(state: TrainState, examples: Examples, order: jax.Array, places: jax.Array) -> Any:
        visit = lambda state, rows: train_step(state, take(examples, rows), places)
        return jax.lax.scan(visit, state, order)

    places = share(np.arange(order.shape[1]), devices)
    axes = (None, None, 0, 0)
    scanned = jax.pmap(scan, AXIS, in_axes=axes, out_axes=None, donate_argnums=0, devices=list(devices))
    steps = scanned.lower(state, examples, share(order, devices), places).compile()

    def epoch(state: TrainState, examples: Examples, order: np.ndarray, done: Callable[[int], None]) -> Any:
        state, metrics = steps(state, examples, share(order, devices), places)
        metrics = jax.device_get(metrics)
        done(len(order))
        return state, metrics

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
    lowered = mapped.lower(state, *ready(state, examples, order[0]))
    update = compile_for_long(lowered, devices) if long else lowered.compile()

    def epoch(state: TrainState, examples: Examples, order: np.ndarray, done: Callable[[int], None]) -> Any:
        history = []
        for rows in order:
            state, metrics = update(state, *ready(state, examples, rows))
            if len(devices) > 1:  # queued collectives of several CPU devices lock up
                jax.block_until_ready(metrics)
            history.append(metrics)
            done(len(history))
        return state, jax.tree.map(lambda *values: np.stack(values), *jax.device_get(history))

    return epoch


def take(examples: Examples, rows: jax.Array) -> Examples:
    return Examples(*(array[rows] for array in examples))
