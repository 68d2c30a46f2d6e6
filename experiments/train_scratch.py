"""Trains a multilayer perceptron in NumPy: one directory per seed, plots, report.json and report.html. If interrupted,
the same command continues."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from jaxnets import data
from jaxnets.config import to_json
from jaxnets.errors import DivergedError, InputError
from jaxnets.store.atomic import remove, remove_temporary, write_json
from jaxnets.store.fingerprint import fingerprint
from jaxnets.store.lock import locked
from jaxnets.store.manifest import checksum_of, committed_folder
from scratch.recipes import RECIPES
from scratch.train import MLPConfig, State, accuracy, fit, predict
from scratch.weights import save_params

from .cli.console import live_line, percent, result, time_left
from .cli.options import LogOptions, check_count, default, run
from .cli.output_dir import compare_once, register
from .cli.paths import writable
from .cli.provenance import command
from .cli.run_dir import RunDir
from .cli.tensorboard import check_events, event_file
from .reporting.scratch_report import make_evaluation, read_trained, write_scratch_report
from .scratch_checkpoint import Row, check_made_from, read_history, resume, save_checkpoint, write_history

EVALUATIONS = 25
"""Number of evaluations of a training, at equal intervals of epochs."""
SAVE_SECONDS = 10
"""Least seconds between two checkpoints. A kill loses at most this much work and an interval between evaluations."""
MAX_WEIGHTS = 50_000_000
"""Most weights of a network: `scratch.weights` does not read larger files."""
MIN_WEIGHTS_FOR_THREADS = 100_000
"""Weights of a network from which on its matrix products are faster with several threads."""


@dataclass(frozen=True, kw_only=True)
class ScratchOptions(LogOptions):
    recipe: Literal["classic", "tuned", "wide", "deformed"] = "classic"
    """Which network is trained, and how."""
    seeds: int = 1
    """Number of networks to train, with the seeds 0, 1, ..."""
    validate: bool = False
    """Train on five sixths of the training rows and evaluate on the others, not on the test rows."""
    data: str = "mnist"
    """The data: mnist, digits, or the path of an .npz file with x_train, y_train, x_test and y_test. kaggle has no test
    labels and needs --validate."""
    data_path: Annotated[Path | None, default("data/")] = None
    """Directory with the files of mnist or kaggle."""
    out: Annotated[Path | None, default("checkpoints/scratch-RECIPE")] = None
    """Output directory. If it holds an unfinished training, that one continues."""
    require_identical: bool = False
    """Refuse to train if the results may differ in their last bits because versions, processors or environment
    variables changed since the training began."""


class Rows(NamedTuple):
    """Examples to train on and to evaluate on: images (N, H, W) float32 in [0, 1], labels (N,)."""

    scored: str  # "test" or "valid"
    x_train: np.ndarray
    y_train: np.ndarray
    x_score: np.ndarray
    y_score: np.ndarray
    indices: np.ndarray  # of x_score in the data's test images, or in its training images


def read_rows(digits: data.Digits, *, validate: bool) -> Rows:
    """Return the examples. Raises InputError if the images have colours, or there are no labels to evaluate with."""
    if digits.x_train.shape[-1] != 1:
        raise InputError(f"data {digits.name}", "has colour images", "use images of one channel")
    x_train, y_train = to_floats(digits.x_train), digits.y_train
    if validate:
        train, valid = data.stratified_split(y_train, fraction=1 / 6, seed=0)
        return Rows("valid", x_train[train], y_train[train], x_train[valid], y_train[valid], valid)
    if digits.y_test is None:
        raise InputError(f"data {digits.name}", "has no test labels", "add --validate")
    return Rows("test", x_train, y_train, to_floats(digits.x_test), digits.y_test, np.arange(len(digits.y_test)))


def to_floats(images: np.ndarray) -> np.ndarray:
    """images (N, H, W, 1) uint8 -> (N, H, W) float32 in [0, 1]."""
    return images[..., 0].astype(np.float32) / 255


def fit_settings(settings: MLPConfig, digits: data.Digits) -> MLPConfig:
    """Return the recipe for images of this size and this number of classes."""
    _, height, width, _ = digits.x_train.shape
    widths = (height * width, *settings.widths[1:-1], digits.num_classes)
    if count_weights(widths) > MAX_WEIGHTS:
        problem = f"has images of {height} x {width}, which take more than {MAX_WEIGHTS:,} weights"
        raise InputError(f"data {digits.name}", problem, "use smaller images, or another --recipe")
    deformation = settings.deformation and settings.deformation.scaled_to(max(height, width))
    return replace(settings, widths=widths, deformation=deformation)


def count_weights(widths: tuple[int, ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def train_seed(
    out: Path, rows: Rows, settings: MLPConfig, seed: int, made_from: dict[str, Any], *, tensorboard: bool = False
) -> None:
    """Train a network, or finish its training. Its directory, `out`/seed-N, is complete and sealed, or absent.

    Checkpoints are kept in a hidden directory next to it.

    Raises:
        InputError: the directory is damaged, or was made from something else.
        DivergedError: the network's predictions are not finite.
    """
    folder, unfinished = out / f"seed-{seed}", out / f".seed-{seed}.unfinished"
    made_from = made_from | {"seed": seed}
    if folder.is_dir():
        check_made_from(folder, made_from)
        remove(unfinished)
        return
    with event_file(out / "tensorboard" / folder.name, wanted=tensorboard) as write_events:
        state, history = train_epochs(unfinished, folder.name, rows, settings, made_from, write_events)
    log_probs = predict(state.params, rows.x_score, settings)
    if not np.isfinite(log_probs).all():
        raise DivergedError(f"{folder.name}: not all predictions are finite")
    with committed_folder(folder, made_from) as temporary:
        save_params(temporary / "weights.npz", state.params)
        write_history(temporary / "metrics.csv", history)
        np.savez(temporary / "log_probs.npz", log_probs=log_probs)
    remove(unfinished)


def train_epochs(
    unfinished: Path,
    name: str,
    rows: Rows,
    settings: MLPConfig,
    made_from: dict[str, Any],
    write_events: Callable[[Row], None],
) -> tuple[State, list[Row]]:
    """Train to the last epoch, from the last checkpoint on; evaluate and save at intervals."""
    with threadpool_limits(blas_threads(settings)), live_line() as show:
        state, history = resume(unfinished, made_from)
        saved_seconds = history[-1]["seconds"] if history else 0.0
        begin = time.perf_counter() - saved_seconds
        epochs = fit(rows.x_train, rows.y_train, settings, seed=made_from["seed"], state=state)
        for state, loss in epochs:
            is_evaluated = state.epoch % max(settings.epochs // EVALUATIONS, 1) == 0 or state.epoch == settings.epochs
            if is_evaluated:
                row = evaluate(state, loss, rows, settings) | {"seconds": time.perf_counter() - begin}
                history.append(row)
                write_events(row)
                if row["seconds"] - saved_seconds > SAVE_SECONDS:
                    save_checkpoint(unfinished, state, history, made_from)
                    saved_seconds = row["seconds"]
            seconds = time.perf_counter() - begin
            show(describe(name, settings, rows, state.epoch, history, seconds), keep=is_evaluated)
    assert state is not None
    return state, history


def blas_threads(settings: MLPConfig) -> int | None:
    """Return the number of BLAS threads; None leaves the choice to BLAS.

    It is 1 if another thread deforms the next batch meanwhile, or if the matrix products are small.
    """
    return 1 if settings.deformation or count_weights(settings.widths) < MIN_WEIGHTS_FOR_THREADS else None


def evaluate(state: State, loss: float, rows: Rows, settings: MLPConfig) -> Row:
    """Return a network's accuracies on the images to evaluate on, and on as many training images, undeformed."""

    def accuracy_of(images: np.ndarray, labels: np.ndarray) -> float:
        return accuracy(predict(state.params, images, settings), labels)

    count = len(rows.x_score)
    return {
        "epoch": state.epoch,
        "loss": loss,
        "train_accuracy": accuracy_of(rows.x_train[:count], rows.y_train[:count]),
        f"{rows.scored}_accuracy": accuracy_of(rows.x_score, rows.y_score),
    }


def describe(name: str, settings: MLPConfig, rows: Rows, epoch: int, history: list[Row], seconds: float) -> str:
    """Return the progress of a training as a line."""
    parts = [f"{name:<8} epoch {epoch:3}/{settings.epochs}"]
    if history:
        parts.append(f"loss {history[-1]['loss']:.4f}  {rows.scored} {history[-1][f'{rows.scored}_accuracy']:.2%}")
    speed = epoch * len(rows.x_train) / seconds
    return "  ".join([*parts, f"{speed:,.0f} images/s", time_left(seconds / epoch * (settings.epochs - epoch))])


def summarise(out: Path, recipe: str, settings: MLPConfig, rows: Rows, seeds: int) -> dict[str, Any]:
    """Return the report: accuracies at the last epoch, their mean and their standard deviation (n - 1)."""
    last = [read_history(out / f"seed-{seed}" / "metrics.csv")[-1] for seed in range(seeds)]
    accuracies = [row[f"{rows.scored}_accuracy"] for row in last]
    return {
        "recipe": recipe,
        "settings": to_json(settings),
        "train_rows": len(rows.x_train),
        f"{rows.scored}_rows": len(rows.x_score),
        "seeds": seeds,
        f"{rows.scored}_accuracies": accuracies,
        f"{rows.scored}_accuracy_mean": float(np.mean(accuracies)),
        f"{rows.scored}_accuracy_sd": float(np.std(accuracies, ddof=1)) if seeds > 1 else None,
        "seconds": [row["seconds"] for row in last],
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "command": command(),
    }


def default_name(options: ScratchOptions, digits: data.Digits) -> str:
    parts = ["scratch", options.recipe, *([] if digits.name == "mnist" else [digits.name])]
    return "-".join([*parts, *(["valid"] if options.validate else [])])


def train_seeds(options: ScratchOptions, out: Path, rows: Rows, settings: MLPConfig, made_from: dict[str, Any]) -> int:
    """Train what is missing, and return the number of networks: an earlier start may have trained more."""
    compare = compare_once(out, fingerprint(), identical=options.require_identical)
    seeds = options.seeds
    while (out / f"seed-{seeds}").is_dir():
        seeds += 1
    for seed in range(seeds):
        if not (out / f"seed-{seed}").is_dir():
            compare()
        train_seed(out, rows, settings, seed, made_from, tensorboard=options.tensorboard)
    return seeds


def write_results(out: Path, summary: dict[str, Any], rows: Rows, settings: MLPConfig, data_name: str) -> None:
    """Write the plots, report.html, and then report.json."""
    trained = read_trained(out, rows.x_train.shape[1:], summary["seeds"])
    kind = "validation" if rows.scored == "valid" else "test"
    evaluation = make_evaluation(kind, data_name, rows.x_score, rows.y_score, rows.indices, trained.log_probs)
    write_scratch_report(out, summary, evaluation, settings, trained, rows.x_train, rows.y_train)
    write_json(RunDir(out).report, summary | {"sha256": checksum_of(summary)})


def main(options: ScratchOptions) -> None:
    check_count("--seeds", options.seeds)
    check_events(wanted=options.tensorboard)
    digits = data.load(options.data, options.data_path)
    rows = read_rows(digits, validate=options.validate)
    settings = fit_settings(RECIPES[options.recipe](), digits)
    out = options.out or Path("checkpoints") / default_name(options, digits)
    made_from = {"recipe": to_json(settings), "data_sha256": data.digest(digits), "scored": rows.scored}
    writable(out)
    with locked(RunDir(out).lock):
        register(out, made_from, {"fingerprint": fingerprint()})
        remove_temporary(out)
        seeds = train_seeds(options, out, rows, settings, made_from)
        summary = summarise(out, options.recipe, settings, rows, seeds)
        write_results(out, summary, rows, settings, digits.name)
    print_summary(summary, rows.scored, RunDir(out).page)


def print_summary(summary: dict[str, Any], scored: str, page: Path) -> None:
    mean, sd = summary[f"{scored}_accuracy_mean"], summary[f"{scored}_accuracy_sd"]
    spread = "" if sd is None else f" +- {sd:.2%} over {summary['seeds']} seeds"
    seconds = f"{np.median(summary['seconds']):.1f} s each"
    result(f"{scored} accuracy {percent(mean)}{spread}; {seconds}; {page}")


if __name__ == "__main__":
    run(main, ScratchOptions)
