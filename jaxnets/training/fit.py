"""Training with checkpoints: the training loop, validation after each epoch, a history, and exact resume."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.config import to_json
from jaxnets.devices import Devices, check_same_everywhere, is_primary, local_devices, replicate
from jaxnets.errors import DivergedError
from jaxnets.inference.ensemble import accuracy
from jaxnets.inference.predict import Predict, make_predict, require_finite
from jaxnets.runs import RunConfig
from jaxnets.store import checkpoint
from jaxnets.store.atomic import write_json
from jaxnets.store.fingerprint import fingerprint
from jaxnets.training.batch_statistics import reestimate
from jaxnets.training.fit_state import FitState, resume, save
from jaxnets.training.history import Row, write_history
from jaxnets.training.loop import TrainLoop
from jaxnets.training.parallel import Metrics, StepCallback, check_batch
from jaxnets.training.step import Examples, TrainState


class Progress(NamedTuple):
    """How far a training is: `finished` of its `epochs`, and `step` of the `steps` of the current one."""

    finished: int
    epochs: int
    step: int
    """0 if an epoch was just saved."""
    steps: int
    batch_size: int
    images_per_second: float
    last: Row
    """The row of the last finished epoch, empty before the first one."""


class Validation(NamedTuple):
    """images (N, H, W, C) uint8, labels (N,); N may be 0."""

    images: np.ndarray
    labels: np.ndarray


def fit(
    folder: Path,
    config: RunConfig,
    examples: Examples,
    valid: Validation,
    devices: Devices,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    identical: bool = False,
) -> bool:
    """Train a model and save it after each epoch; a training that was interrupted resumes where it was saved.

    Writes config.json, metrics.csv and state/, which holds the last two checkpoints, to `folder`. A resumed training
    has bitwise the same result as an uninterrupted one if the environment fingerprint is the same. Otherwise it warns
    or, if the result must be `identical`, raises InputError. If several processes train together, all of them call this
    with the same arguments, and the primary one writes.

    `on_progress` is called after every step, or call of several steps, and after every saved epoch. `should_stop` is
    called once after every step, or call of several steps; once it returned True, the state is saved as it is and the
    training ends. Returns True if the training is finished, False if it was stopped.

    Raises:
        InputError: batch size and devices do not fit, `folder` has another configuration or lacks free space for three
            states (all of them before anything is compiled), or a write fails.
        DivergedError: a loss, gradient, statistic, prediction or value to be saved is not finite; the message names the
            step. Earlier checkpoints are kept.
    """
    check_batch(config.recipe.training.batch_size, len(examples.images), devices)
    loop = TrainLoop(config=config, num_rows=len(examples.images))
    current = open_training(folder, loop, devices, identical=identical)
    if len(current.history) == loop.training.epochs:
        return True
    return run_epochs(folder, loop, current, examples, valid, devices, on_progress, should_stop)


def open_training(folder: Path, loop: TrainLoop, devices: Devices, *, identical: bool) -> FitState:
    """Return the training saved in `folder`, or a new one: the folder is then created."""
    config = loop.config
    current = resume(folder, config, loop.init(config.seed), fingerprint(devices), identical=identical)
    # All processes have read the folder when this returns; only then may the primary one write to it.
    check_same_everywhere(folder, {"settings": config.settings(), "progress": [len(current.history), current.steps]})
    if is_primary():
        if len(current.history) == loop.training.epochs:
            write_history(folder, current.history)  # a kill may have come between the last state and this
        else:
            create_folder(folder, config, current.state)
    return current


def run_epochs(
    folder: Path,
    loop: TrainLoop,
    current: FitState,
    examples: Examples,
    valid: Validation,
    devices: Devices,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Train from `current` on, and save after each epoch. Returns and raises as `fit` does."""
    state, resident = replicate((current.state, examples), devices)
    begin = time.perf_counter()
    run_epoch = loop.compile(devices, state, resident)
    compile_seconds = time.perf_counter() - begin
    predict = make_predict(loop.graphdef, local_devices(devices))
    stopped = False
    while len(current.history) < loop.training.epochs and not stopped:
        begin, epoch = time.perf_counter(), len(current.history)
        order = loop.order(loop.config.seed, epoch)[current.steps :]
        on_step = step_callback(loop, current, on_progress, should_stop)
        state, metrics, stopped = run_epoch(state, resident, order, on_step)
        current = current.add_steps(state, metrics, time.perf_counter() - begin)
        with step_context(loop, current):
            if current.steps == loop.steps_per_epoch:
                if epoch + 1 == loop.training.epochs:
                    state = with_clean_statistics(state, loop, examples, local_devices(devices))
                row = summarise(loop, current, compile_seconds) | validate(predict, state, valid)
                current, compile_seconds = current.add_epoch(state, row), 0.0
            if is_primary():
                save(folder, loop.config, current)
        if not stopped:
            on_progress(make_progress(loop, current, 0, current.history[-1]["images_per_second"]))
    return len(current.history) == loop.training.epochs


def create_folder(folder: Path, config: RunConfig, state: TrainState) -> None:
    """Create the run's folder with its config.json. Raises InputError, and writes nothing, without free space."""
    checkpoint.check_free_space(folder, state, times=checkpoint.KEEP_STEPS + 1)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", to_json(config))


def make_progress(loop: TrainLoop, current: FitState, step: int, images_per_second: float) -> Progress:
    return Progress(
        finished=len(current.history),
        epochs=loop.training.epochs,
        step=step,
        steps=loop.steps_per_epoch,
        batch_size=loop.training.batch_size,
        images_per_second=images_per_second,
        last=current.history[-1] if current.history else {},
    )


def step_callback(
    loop: TrainLoop, current: FitState, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
) -> StepCallback:
    """Return the step callback of the epoch that `current` is in.

    It raises DivergedError if a metric is not finite, reports progress, and returns should_stop().
    """
    begin = time.perf_counter()

    def on_step(steps: int, metrics: Metrics) -> bool:
        epoch, step = len(current.history), current.steps + steps
        check_finite(loop, epoch, step - len(metrics["loss"]), metrics)
        images_per_second = steps * loop.training.batch_size / (time.perf_counter() - begin)
        on_progress(make_progress(loop, current, step, images_per_second))
        return should_stop()

    return on_step


def check_finite(loop: TrainLoop, epoch: int, first: int, metrics: Metrics) -> None:
    """Raise DivergedError if a metric is not finite; `first` is the number of the first of these steps in its epoch."""
    bad = np.flatnonzero(~np.all([np.isfinite(values) for values in metrics.values()], axis=0))
    if len(bad):
        values = {name: values[bad[0]] for name, values in metrics.items()}
        raise DivergedError(describe_step(loop, epoch, first + int(bad[0]), values))


@contextmanager
def step_context(loop: TrainLoop, current: FitState) -> Iterator[None]:
    """Prefix the message of a DivergedError with the step that preceded it."""
    try:
        yield
    except DivergedError as error:
        values = {name: values[-1] for name, values in current.part.items()}
        step = describe_step(loop, len(current.history), current.steps - 1, values)
        raise DivergedError(f"{step}: {error}") from error


def describe_step(loop: TrainLoop, epoch: int, step: int, metrics: Row) -> str:
    """Return a line that names a step, its metrics, its learning rate and its first training rows."""
    names = [name for name in ("loss", "gradient_norm", "statistics_norm") if name in metrics]
    values = "".join(f"{name} {metrics[name]:.4g}, " for name in names)
    learning_rate = float(loop.schedule(epoch * loop.steps_per_epoch + step))
    rows = ", ".join(map(str, loop.order(loop.config.seed, epoch)[step][:5]))
    return (
        f"{loop.config.recipe.family}, seed {loop.config.seed}: epoch {epoch + 1}, step {step + 1} of "
        f"{loop.steps_per_epoch}: {values}learning_rate {learning_rate:.4g}, rows {rows} ..."
    )


def summarise(loop: TrainLoop, current: FitState, compile_seconds: float) -> Row:
    """Return the metrics.csv row of an epoch of which `current` has all steps: means and times."""
    epoch, names = len(current.history) + 1, ("loss", "accuracy", "gradient_norm")
    return {
        "epoch": epoch,
        **{name: float(np.array(current.part[name], np.float32).mean()) for name in names},
        "learning_rate": float(loop.schedule(epoch * loop.steps_per_epoch - 1)),
        "images_per_second": loop.steps_per_epoch * loop.training.batch_size / current.seconds,
        "seconds": current.seconds,
        "compile_seconds": compile_seconds,
    }


def validate(predict: Predict, state: TrainState, valid: Validation) -> Row:
    """Return the validation accuracy of the EMA parameters, nothing if there are no validation images. Raises
    DivergedError if a prediction is not finite."""
    log_probs = require_finite(predict(state.ema["params"], state.ema["stats"], valid.images), "validation rows")
    return {"valid_accuracy": accuracy(log_probs, valid.labels)} if len(valid.labels) else {}


def with_clean_statistics(state: TrainState, loop: TrainLoop, examples: Examples, devices: Devices) -> TrainState:
    """Return the state with the EMA's batch-norm statistics recomputed on images without augmentation."""
    params, stats = state.ema["params"], state.ema["stats"]
    batch_size = loop.training.batch_size
    stats = reestimate(loop.graphdef, params, stats, examples.images, devices, batch_size=batch_size)
    return state._replace(ema={"params": params, "stats": stats})
