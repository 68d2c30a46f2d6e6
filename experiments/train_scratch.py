"""Trains the network in NumPy alone: a folder a seed, pictures, report.json and report.html. Run again, it goes on."""

import platform
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from experiments.cli.console import live_line, percent, result, time_left
from experiments.cli.options import MANY, LogOptions, run
from experiments.cli.output_dir import claim, compare_once
from experiments.cli.paths import writable
from experiments.cli.provenance import command
from experiments.cli.tensorboard import check_events, event_file
from experiments.reporting.scratch_report import draw, judge, read_trained, write_scratch_report
from experiments.scratch_checkpoint import Row, check_origin, read_history, resume, save_checkpoint, write_history
from jaxnets import data
from jaxnets.config import to_json
from jaxnets.errors import DivergedError, InputError
from jaxnets.store.atomic import remove, remove_temporary, write_json
from jaxnets.store.fingerprint import fingerprint
from jaxnets.store.lock import locked
from jaxnets.store.manifest import checksum_of, sealed_folder
from scratch.recipes import RECIPES
from scratch.train import Settings, State, accuracy, fit, predict
from scratch.weights import save_params

LOOKS = 25
"""How often a training is scored, evenly over its epochs."""

SAVE_SECONDS = 10
"""At most so much work is lost, and a look, when a training is killed; training that is over sooner is never saved."""

MOST = 50_000_000
"""Weights of a network: a file of more would not be read again, see `scratch.weights`."""


@dataclass(frozen=True, kw_only=True)
class ScratchOptions(LogOptions):
    recipe: Literal["classic", "tuned", "wide", "deformed"] = "classic"
    """Which network, and how it is trained."""
    seeds: int = 1
    """How many networks: the seeds 0, 1, ..."""
    validate: bool = False
    """To choose settings by: train on five sixths of the training rows, score on the others, leave the test rows
    alone."""
    data: str = "mnist"
    """mnist, digits, or the path of an .npz with x_train, y_train, x_test, y_test; kaggle with --validate."""
    data_path: Path | None = None
    """Where the files of mnist or kaggle are, if not under data/."""
    out: Path | None = None
    """Folder of the results; checkpoints/scratch-RECIPE unless given."""
    require_identical: bool = False
    """Refuse to train where the bits may differ: other versions, processors or environment variables than before."""


class Rows(NamedTuple):
    """What to train on, and what to score on: images (N, H, W) float32 in [0, 1], labels (N,)."""

    scored: str  # "test" or "valid"
    x_train: np.ndarray
    y_train: np.ndarray
    x_score: np.ndarray
    y_score: np.ndarray
    places: np.ndarray  # of those to score on among the data's test images, or its training images


def read_rows(digits: data.Digits, *, validate: bool) -> Rows:
    if digits.x_train.shape[-1] != 1:
        raise InputError(f"data {digits.name}", "has colours", "bring images of one channel")
    grey = lambda images: images[..., 0].astype(np.float32) / 255
    x_train, y_train = grey(digits.x_train), digits.y_train
    if validate:
        train, valid = data.stratified_split(y_train, fraction=1 / 6, seed=0)
        return Rows("valid", x_train[train], y_train[train], x_train[valid], y_train[valid], valid)
    if digits.y_test is None:
        raise InputError(f"data {digits.name}", "has no test labels", "add --validate")
    return Rows("test", x_train, y_train, grey(digits.x_test), digits.y_test, np.arange(len(digits.y_test)))


def fitted(settings: Settings, digits: data.Digits) -> Settings:
    """The recipe for pictures of this size and this number of classes."""
    _, height, width, _ = digits.x_train.shape
    widths = (height * width, *settings.widths[1:-1], digits.num_classes)
    if weights(widths) > MOST:
        problem = f"has images of {height} x {width}, which take more than {MOST:,} weights"
        raise InputError(f"data {digits.name}", problem, "bring smaller ones, or another --recipe")
    strength = settings.deformation and settings.deformation.scaled_to(max(height, width))
    return replace(settings, widths=widths, deformation=strength)


def train_seed(
    out: Path, rows: Rows, settings: Settings, seed: int, origin: dict[str, Any], *, tensorboard: bool = False
) -> None:
    """Leaves a trained network in `out`/seed-N, which is sealed or absent; its last looks lie in a hidden folder.

    Raises InputError where the folder is damaged, or of another `origin`, what the job says of itself; DivergedError
    where the network's answers are not finite.
    """
    folder, unfinished = out / f"seed-{seed}", out / f".seed-{seed}.unfinished"
    made_from = origin | {"seed": seed}
    if folder.is_dir():
        check_origin(folder, made_from)
        remove(unfinished)
        return
    last, history = resume(unfinished, made_from)
    saved = history[-1]["seconds"] if history else 0.0
    begin = time.perf_counter() - saved
    events = event_file(out / "tensorboard" / folder.name, wanted=tensorboard)
    with threadpool_limits(threads(settings)), live_line() as show, events as write:
        for state, loss in fit(rows.x_train, rows.y_train, settings, seed=seed, state=last):
            last = state
            look = state.epoch % max(settings.epochs // LOOKS, 1) == 0 or state.epoch == settings.epochs
            if look:
                history.append(score(state, loss, rows, settings) | {"seconds": time.perf_counter() - begin})
                write(history[-1])
            if look and history[-1]["seconds"] - saved > SAVE_SECONDS:
                save_checkpoint(unfinished, state, history, made_from)
                saved = history[-1]["seconds"]
            show(describe(folder.name, settings, rows, state.epoch, history, time.perf_counter() - begin), keep=look)
    assert last is not None
    log_probs = predict(last.params, rows.x_score, settings)
    if not np.isfinite(log_probs).all():
        raise DivergedError(f"{folder.name}: not all of its answers are finite")
    with sealed_folder(folder, made_from) as draft:
        save_params(draft / "weights.npz", last.params)
        write_history(draft / "metrics.csv", history)
        np.savez(draft / "log_probs.npz", log_probs=log_probs)
    remove(unfinished)


def threads(settings: Settings) -> int | None:
    """For BLAS: one where a thread beside it deforms the next batch, or where products are too small to be shared."""
    return 1 if settings.deformation or weights(settings.widths) < 100_000 else None


def weights(widths: tuple[int, ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def score(state: State, loss: float, rows: Rows, settings: Settings) -> Row:
    """One look at a network: on training pictures as they are, as many as there are to score on, and on those."""
    count = len(rows.x_score)
    of = lambda images, labels: accuracy(predict(state.params, images, settings), labels)
    return {
        "epoch": state.epoch,
        "loss": loss,
        "train_accuracy": of(rows.x_train[:count], rows.y_train[:count]),
        f"{rows.scored}_accuracy": of(rows.x_score, rows.y_score),
    }


def describe(name: str, settings: Settings, rows: Rows, epoch: int, history: list[Row], seconds: float) -> str:
    parts = [f"{name:<8} epoch {epoch:3}/{settings.epochs}"]
    if history:
        parts.append(f"loss {history[-1]['loss']:.4f}  {rows.scored} {history[-1][f'{rows.scored}_accuracy']:.2%}")
    speed = epoch * len(rows.x_train) / seconds
    return "  ".join([*parts, f"{speed:,.0f} images/s", time_left(seconds / epoch * (settings.epochs - epoch))])


def summarise(out: Path, recipe: str, settings: Settings, rows: Rows, seeds: int) -> dict:
    """-> the report: accuracies at the last epoch, their mean and their standard deviation (n - 1)."""
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


def main(options: ScratchOptions) -> None:
    if not 1 <= options.seeds <= MANY:
        raise InputError("--seeds", f"is {options.seeds}", f"give a whole number from 1 to {MANY}")
    check_events(wanted=options.tensorboard)
    digits = data.load(options.data, options.data_path)
    rows = read_rows(digits, validate=options.validate)
    settings = fitted(RECIPES[options.recipe](), digits)
    out = options.out or Path("checkpoints") / default_name(options, digits)
    origin = {"recipe": to_json(settings), "data_sha256": data.digest(digits), "scored": rows.scored}
    writable(out)
    environment = fingerprint()
    with locked(out / ".lock"):
        claim(out, origin, {"fingerprint": environment})
        remove_temporary(out)
        seeds = options.seeds
        while (out / f"seed-{seeds}").is_dir():  # an earlier start trained more: the report forgets none
            seeds += 1
        compare = compare_once(out, environment, identical=options.require_identical)
        for seed in range(seeds):
            if not (out / f"seed-{seed}").is_dir():
                compare()
            train_seed(out, rows, settings, seed, origin, tensorboard=options.tensorboard)
        summary = summarise(out, options.recipe, settings, rows, seeds)
        trained = read_trained(out, rows.x_train.shape[1:], seeds)
        kind = "validation" if options.validate else "test"
        judged = judge(kind, digits.name, rows.x_score, rows.y_score, rows.places, trained.log_probs)
        draw(out, judged, trained)
        write_scratch_report(out, summary, judged, settings, trained, rows.x_train, rows.y_train)
        write_json(out / "report.json", summary | {"sha256": checksum_of(summary)})
    mean, sd = (summary[f"{rows.scored}_accuracy_{part}"] for part in ("mean", "sd"))
    spread = "" if sd is None else f" +- {sd:.2%} over {seeds} seeds"
    each = f"{np.median(summary['seconds']):.1f} s each"
    result(f"{rows.scored} accuracy {percent(mean)}{spread}; {each}; {out}/report.html")


if __name__ == "__main__":
    run(main, ScratchOptions)
