"""Examples -> a trained run, one epoch after the other, each saved: ended anywhere, it goes on to the same bits."""

import csv
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.config import to_json
from jaxnets.devices import Devices, check_same_everywhere, is_primary, local_devices, replicate
from jaxnets.errors import DivergedError, InputError, brief
from jaxnets.inference.ensemble import accuracy
from jaxnets.inference.predict import make_predict, require_finite
from jaxnets.runs import AGAIN, RunConfig
from jaxnets.store import checkpoint
from jaxnets.store.atomic import atomic_file, write_json
from jaxnets.store.bounded import read_bytes
from jaxnets.store.fingerprint import compare, fingerprint
from jaxnets.training.batch_statistics import reestimate
from jaxnets.training.loop import TrainLoop, make_train_loop
from jaxnets.training.parallel import Done, Metrics, check_batch
from jaxnets.training.step import Examples, TrainState

LIMIT = 1 << 24
"""Bytes of metrics.csv: a row takes a hundred and fifty."""
Row = dict[str, float]


class Progress(NamedTuple):
    """How far a training is: `finished` of its `epochs`, and `step` of the `steps` of the next one, none right after an
    epoch was saved; `last` is the row of the last finished epoch."""

    finished: int
    epochs: int
    step: int
    steps: int
    batch_size: int
    images_per_second: float
    last: Row


class Validation(NamedTuple):
    """images (N, H, W, C) uint8, labels (N,); N may be 0."""

    images: np.ndarray
    labels: np.ndarray


class Point(NamedTuple):
    """Where a training is: its state, a row of metrics for every finished epoch, of the epoch that is not finished the
    metrics by step and its seconds so far, and the fingerprints of all that has computed it."""

    state: TrainState
    history: list[Row]
    part: dict[str, list[float]]
    seconds: float
    made_by: list[dict[str, Any]]

    @property
    def steps(self) -> int:
        """Of the epoch that is not finished."""
        return len(self.part.get("loss", []))


def fit(
    folder: Path,
    config: RunConfig,
    examples: Examples,
    valid: Validation,
    devices: Devices,
    report: Callable[[Progress], None] = lambda progress: None,
    stopping: Callable[[], bool] = lambda: False,
    *,
    identical: bool = False,
) -> bool:
    """Trains the network of `config` on `examples` (NumPy arrays); config.json, metrics.csv, state/ and best/ are left
    in `folder`: the last state, and the averaged network of the epoch that had most validation rows right, if there are
    such rows. Several processes call it alike; the first one writes.

    A folder that holds some steps already is taken up from there, to the same bits where the fingerprint is the same;
    where it is not, a warning says so, or, if the bits must be `identical`, an InputError. `stopping()` is called after
    every step and every epoch, until it returns True; then the state is saved as it is, and the training ends.

    Returns:
        Whether the training came to its end.

    Raises:
        InputError: before anything compiles, where batch and devices do not fit, `folder` is of another config, or its
            disk has no room for three states; later, where the disk does not take what is to be saved.
        DivergedError: the loss, the gradient, a statistic, an answer or what is to be saved is not finite. It says
            where; earlier steps stay.
    """
    training, stopping = config.recipe.training, latched(stopping)
    check_batch(training.batch_size, len(examples.images), devices)
    parts = make_train_loop(config, len(examples.images))
    point = resume(folder, config, parts.start(config.seed), fingerprint(devices), identical=identical)
    # Here all wait for all, too: the first must not rename what another one has not looked at yet.
    check_same_everywhere(folder, {"settings": config.settings(), "progress": [len(point.history), point.steps]})
    if len(point.history) == training.epochs:
        if is_primary():
            write_history(folder, point.history)  # a kill may have come between the last state and this
        return True
    if is_primary():
        checkpoint.check_free_space(folder, point.state, times=checkpoint.KEEP + 1)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", to_json(config))
    state, resident = replicate((point.state, examples), devices)
    begin = time.perf_counter()
    run_epoch = parts.compile(devices, state, resident)
    compile_seconds = time.perf_counter() - begin
    predict = make_predict(parts.graphdef, local_devices(devices))

    while len(point.history) < training.epochs:
        begin, epoch = time.perf_counter(), len(point.history)
        done = listener(config, parts, point, report, stopping)
        state, metrics = run_epoch(state, resident, parts.order(config.seed, epoch)[point.steps :], done)
        part = {name: [*point.part.get(name, []), *map(float, values)] for name, values in metrics.items()}
        point = point._replace(state=state, part=part, seconds=point.seconds + time.perf_counter() - begin)
        with placed(config, parts, point):
            if point.steps == parts.steps:
                if epoch + 1 == training.epochs:
                    state = with_clean_statistics(state, parts, examples, local_devices(devices), training.batch_size)
                log_probs = predict(state.average["params"], state.average["stats"], valid.images)
                require_finite(log_probs, "validation rows")
                row = summarise(config, parts, point, compile_seconds)
                if len(valid.labels):
                    row["valid_accuracy"] = accuracy(log_probs, valid.labels)
                point = Point(state, [*point.history, row], {}, 0.0, point.made_by)
                compile_seconds = 0.0
            if is_primary():
                save(folder, config, point)
        if stopping():
            break
        report(Progress(epoch + 1, training.epochs, 0, parts.steps, training.batch_size, row["images_per_second"], row))
    return len(point.history) == training.epochs


def with_clean_statistics(
    state: TrainState, parts: TrainLoop, examples: Examples, devices: Devices, batch_size: int
) -> TrainState:
    """The state whose averaged network has the batch-norm statistics of images without augmentation."""
    params, stats = state.average["params"], state.average["stats"]
    stats = reestimate(parts.graphdef, params, stats, examples.images, devices, batch_size=batch_size)
    return state._replace(average={"params": params, "stats": stats})


def latched(stopping: Callable[[], bool]) -> Callable[[], bool]:
    """Returns a function that calls `stopping` until it returns True, and from then on returns True itself."""
    stopped = False

    def latch() -> bool:
        nonlocal stopped
        stopped = stopped or stopping()
        return stopped

    return latch


def listener(
    config: RunConfig,
    parts: TrainLoop,
    point: Point,
    report: Callable[[Progress], None],
    stopping: Callable[[], bool],
) -> Done:
    """-> what hears of every step of the epoch that `point` is in: it reports, and ends what diverges or is to stop."""
    epochs, batch_size = config.recipe.training.epochs, config.recipe.training.batch_size
    epoch, first, begin = len(point.history), point.steps, time.perf_counter()

    def done(steps: int, metrics: Metrics) -> bool:
        check_finite(config, parts, epoch, first + steps - len(metrics["loss"]), metrics)
        speed = steps * batch_size / (time.perf_counter() - begin)
        report(Progress(epoch, epochs, first + steps, parts.steps, batch_size, speed, (point.history or [{}])[-1]))
        return stopping()

    return done


def check_finite(config: RunConfig, parts: TrainLoop, epoch: int, first: int, metrics: Metrics) -> None:
    """DivergedError, which says where, if the metrics of the steps of an epoch from `first` on are not finite."""
    bad = np.flatnonzero(~np.all([np.isfinite(values) for values in metrics.values()], axis=0))
    if len(bad):
        values = {name: values[bad[0]] for name, values in metrics.items()}
        raise DivergedError(describe_step(config, parts, epoch, first + int(bad[0]), values))


@contextmanager
def placed(config: RunConfig, parts: TrainLoop, point: Point) -> Iterator[None]:
    """A DivergedError within says after which step, too."""
    try:
        yield
    except DivergedError as error:
        values = {name: values[-1] for name, values in point.part.items()}
        place = describe_step(config, parts, len(point.history), point.steps - 1, values)
        raise DivergedError(f"{place}: {error}") from error


def describe_step(config: RunConfig, parts: TrainLoop, epoch: int, step: int, metrics: Row) -> str:
    """Which step of which network, and what a person wants to know of it who is to mend it."""
    names = [name for name in ("loss", "gradient_norm", "statistics_norm") if name in metrics]
    values = "".join(f"{name} {metrics[name]:.4g}, " for name in names)
    rate, rows = parts.rate(epoch * parts.steps + step), parts.order(config.seed, epoch)[step]
    return (
        f"{config.recipe.family}, seed {config.seed}: epoch {epoch + 1}, step {step + 1} of {parts.steps}: {values}"
        f"learning_rate {float(rate):.4g}, rows {', '.join(map(str, rows[:5]))} ..."
    )


def summarise(config: RunConfig, parts: TrainLoop, point: Point, compile_seconds: float) -> Row:
    """The row of metrics.csv of the epoch whose steps `point` has all."""
    epoch, names = len(point.history) + 1, ("loss", "accuracy", "gradient_norm")
    return {
        "epoch": epoch,
        **{name: float(np.array(point.part[name], np.float32).mean()) for name in names},
        "learning_rate": float(parts.rate(epoch * parts.steps - 1)),
        "images_per_second": parts.steps * config.recipe.training.batch_size / point.seconds,
        "seconds": point.seconds,
        "compile_seconds": compile_seconds,
    }


def save(folder: Path, config: RunConfig, point: Point) -> None:
    """The best network first: after a kill between the two the epoch is trained again, and writes both."""
    state, history = point.state, point.history
    facts: dict[str, Any] = {"config": config.settings(), "fingerprints": point.made_by}
    facts |= {"history": history, "part": point.part, "seconds": point.seconds}
    accuracies = [row["valid_accuracy"] for row in history if "valid_accuracy" in row]
    if not point.part and accuracies and accuracies[-1] > max(accuracies[:-1], default=-1.0):
        checkpoint.save(folder / "best", int(state.step), {"average": state.average}, facts, keep=1)
    items = {"average": state.average, "rest": state._replace(average={})}
    checkpoint.save(folder / "state", int(state.step), items, facts)
    if not point.part:
        write_history(folder, history)


def resume(
    folder: Path, config: RunConfig, state: TrainState, now: dict[str, Any], *, identical: bool = False
) -> Point:
    """Where the training in `folder` was left, or its start from the given state. InputError if it is another one's;
    where part of it was made otherwise than `now` a warning, or, if the bits must be `identical`, an InputError."""
    restored = checkpoint.restore(folder / "state", {"average": state.average, "rest": state._replace(average={})})
    if restored is None:
        return Point(state, [], {}, 0.0, [now])
    facts, ours = restored.facts, config.settings()
    different = [name for name in ours if facts["config"].get(name) != ours[name]]
    if different:
        problem = f"was trained with another {' and '.join(different)}"
        raise InputError(folder, problem, "train with the same settings as then, or delete the folder to begin again")
    made_by = facts.get("fingerprints", [{}])  # older states have none
    if is_primary():
        compare(folder, made_by, now, identical=identical)
    state = restored.items["rest"]._replace(average=restored.items["average"])
    made_by = [*(one for one in made_by if one != now), now]
    return Point(state, facts["history"], facts["part"], facts["seconds"], made_by)


def write_history(folder: Path, history: list[Row]) -> None:
    with atomic_file(folder / "metrics.csv") as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_history(folder: Path) -> list[Row]:
    """The rows of a run's metrics.csv, one an epoch; InputError where it has none or is damaged."""
    path = folder / "metrics.csv"
    try:
        text = io.StringIO(read_bytes(path, limit=LIMIT).decode(), newline="")
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text)]
        if not history or not {"seconds", "compile_seconds", "images_per_second"} <= history[0].keys():
            raise ValueError("it holds no epochs")
        return history
    except InputError as error:
        raise InputError(path, error.problem, AGAIN) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({brief(error)})", AGAIN) from error
