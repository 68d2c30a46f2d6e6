"""Evaluates trained models and their ensemble: a table, report.json, and a page and plots of their errors. The models
are those of an output directory, pretrained ones, or any others. No other stage reads test labels."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.recipes import FAMILIES
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import manifest_hash
from jaxnets.store.train_rows import FILE_NAME, was_trained_on

from .cli.console import percent, result, say
from .cli.job import Job, open_job
from .cli.options import ScoreOptions, check_count, default, run, start_jax
from .cli.paths import writable_file
from .cli.provenance import clocked
from .cli.run_dir import Member, RunDir
from .ensemble import read_ensemble
from .predict import read_log_probs
from .reporting.error_analysis import short_names
from .reporting.metrics import EnsembleSummary, Predictions, Report, add_validation, check_rows, show
from .reporting.results import make_report, previous_report, write_reports

if TYPE_CHECKING:
    from jaxnets.devices import Devices
    from jaxnets.runs import Run

    Pretrained = str
else:
    Pretrained = Literal["all", *FAMILIES]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ScoreOptions):
    out: Annotated[Path | None, default("checkpoints/PRESET-DATA, pretrained-evaluated or runs-evaluated")] = None
    """Output directory: that of the experiment to evaluate, or the one for a report of other models."""
    pretrained: Pretrained | None = None
    """Evaluate the pretrained models of the repository, one family or all, instead of an experiment."""
    runs: tuple[Path, ...] = ()
    """Evaluate the trained models in these directories, instead of an experiment."""


def evaluate(
    job: Job,
    test_labels: np.ndarray | None,
    begin: float,
    *,
    resumed: bool,
    allowed: bool = False,
    previous: Report | None = None,
) -> Report:
    """Evaluate the ensemble of an experiment; write report.html, plots and mistakes.csv, and then report.json.

    `test_labels` (T,) are those of its test images, if there are any. `begin` is when the program began, by
    time.perf_counter, and `resumed` whether it found parts of the results. Command and time of a `previous` report are
    kept. Unless `allowed`, InputError is raised if a model was trained on test images.
    """
    run_dir = job.run_dir
    summary = read_ensemble(run_dir.path)
    predictions = read_predictions(job, summary, test_labels, allowed=allowed)
    with clocked(run_dir.path, "evaluate"):
        report = make_report(
            predictions,
            summary,
            job.data.digits,
            job.hardware.devices,
            begin,
            resumed=resumed,
            preset=job.preset.name,
            precision=job.hardware.precision,
            train_rows=len(job.data.train_rows),
            seed=job.seed,
            pseudo_labels=read_json(run_dir.pseudo_labels / "summary.json") if run_dir.pseudo_labels.is_dir() else None,
            made_from=provenance(run_dir.ensemble, test_labels, allowed=allowed),
        )
    if previous is not None:
        seconds = previous.total_seconds
        report = replace(report, command=previous.command, total_seconds=seconds, resumed=previous.resumed)
    write_reports(run_dir.path, report, predictions, job.data.digits, job.data.valid_rows, job.preset.selection)
    return report


def read_predictions(
    job: Job, summary: EnsembleSummary, test_labels: np.ndarray | None, *, allowed: bool
) -> Predictions:
    """Return the predictions of the members of an experiment's ensemble."""
    from jaxnets.runs import read_config

    members = [Member.parse(name) for name in summary.members]
    folders = [job.run_dir.member(member) for member in members]
    log_probs, x_test = read_log_probs(job, members), job.data.digits.x_test
    return Predictions(
        folders=folders,
        inductive=[read_config(folder).pseudo_labels is None for folder in folders],
        valid=log_probs["valid"],
        valid_labels=job.data.valid_labels,
        test=log_probs["test"],
        test_labels=test_labels,
        trained_rows=0 if test_labels is None else check_rows(folders, x_test, allowed=allowed),
    )


def provenance(ensemble: Path, test_labels: np.ndarray | None, *, allowed: bool) -> dict[str, Any]:
    """Return what identifies the ensemble and the test labels that a report is made from."""
    labels = None if test_labels is None else hashlib.sha256(test_labels.tobytes()).hexdigest()
    return {"ensemble": manifest_hash(ensemble), "test_labels": labels, "allow_trained_rows": allowed}


def evaluate_models(options: EvaluateOptions, out: Path, begin: float) -> Report:
    """Evaluate pretrained models, or those in any directories, on the test images; write the report to `out`."""
    from jaxnets.devices import choose_devices

    digits = data.load(options.data, options.data_path)
    if digits.y_test is None:
        raise InputError(f"data {options.data}", "has no test labels", "evaluate on other data, for instance mnist")
    folders = named_models(options)
    runs = open_runs(folders, digits)
    if options.precision != "auto":
        runs = [trained_run.computing_in(options.precision) for trained_run in runs]
    trained_rows = check_rows(folders, digits.x_test, allowed=options.allow_trained_rows)
    writable_file(RunDir(out).report)
    start_jax(options)
    devices = choose_devices(options.devices)
    valid_rows = held_out_rows(folders, digits.x_train)
    valid, test = predict_models(options, folders, runs, digits, valid_rows, devices)
    predictions = Predictions(
        folders=folders,
        inductive=[trained_run.config.pseudo_labels is None for trained_run in runs],
        valid=valid,
        valid_labels=digits.y_train[valid_rows],
        test=test,
        test_labels=digits.y_test,
        trained_rows=trained_rows,
    )
    weights = [1 / len(runs)] * len(runs)
    summary = EnsembleSummary(members=short_names(folders), fitted_weights=False, weights=weights)
    summary = add_validation(summary, valid, predictions.valid_mean, predictions.valid_labels)
    report = make_report(
        predictions,
        summary,
        digits,
        devices,
        begin,
        preset="pretrained" if options.pretrained else "runs",
        precision=" and ".join(sorted({trained_run.config.precision for trained_run in runs})),
        train_rows=len(digits.x_train) - len(valid_rows),
    )
    write_reports(out, report, predictions, digits, valid_rows)
    return report


def predict_models(
    options: EvaluateOptions,
    folders: list[Path],
    runs: "list[Run]",
    digits: data.Digits,
    valid_rows: np.ndarray,
    devices: "Devices",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities of M models for the validation and for the test images, (M, V, N, K) each."""
    from jaxnets.inference.tta import tta

    images = np.concatenate([digits.x_test, digits.x_train[valid_rows]])
    members = []
    for folder, trained_run in zip(folders, runs, strict=True):
        members.append(tta(trained_run, {"all": images}, views=options.views or 1, devices=devices)["all"])
        say(f"{folder.name}: predicted")
    test, valid = np.split(np.stack(members), [len(digits.x_test)], axis=2)
    return valid, test


def named_models(options: EvaluateOptions) -> list[Path]:
    """Return the directories of the models that the options name. Raises InputError if there are none."""
    from jaxnets.store.weights import PRETRAINED

    known = [path.parent.name for path in sorted(PRETRAINED.glob("*/config.json"))]
    families = known if options.pretrained == "all" else [options.pretrained] if options.pretrained else []
    folders = [*(PRETRAINED / family for family in families), *options.runs]
    if not folders or not set(families) <= set(known):
        problem = f"holds {', '.join(known) or 'no models'}, not {options.pretrained}"
        fix = "name trained models with --runs, or put some there with experiments.tools.publish"
        raise InputError(PRETRAINED, problem, fix)
    return folders


def open_runs(folders: list[Path], digits: data.Digits) -> "list[Run]":
    """Open trained models. Raises InputError if one is damaged or has other image shapes or classes than the data."""
    from jaxnets.runs import open_run
    from jaxnets.training.history import read_history

    runs = []
    data_shape = (*digits.x_test.shape[1:], digits.num_classes)
    for folder in folders:
        runs.append(open_run(folder))
        model_shape = (*runs[-1].config.image_shape, runs[-1].config.num_classes)
        if model_shape != data_shape:
            problem = f"expects (height, width, channels, classes) {model_shape}, data {digits.name} has {data_shape}"
            raise InputError(folder, problem, "leave it out, or name the data that it was trained on")
        read_history(folder)
    return runs


def held_out_rows(folders: list[Path], images: np.ndarray) -> np.ndarray:
    """images (N, H, W, C) of the training rows -> the rows that no model was trained on, for validation.

    There are none if the models were trained on other data, or one does not record its training rows.
    """
    if not all((folder / FILE_NAME).is_file() for folder in folders):
        return np.zeros(0, int)
    seen = np.any([was_trained_on(folder, images) for folder in folders], axis=0)
    return np.flatnonzero(~seen) if seen.any() else np.zeros(0, int)


def main(options: EvaluateOptions) -> None:
    begin = time.perf_counter()
    if options.pretrained or options.runs:
        if options.require_identical:
            problem = "needs an output directory, where the environment is recorded"
            raise InputError("--require-identical", problem, "leave it out")
        check_count("--views", options.views)
        out = options.out or Path("checkpoints") / ("pretrained-evaluated" if options.pretrained else "runs-evaluated")
        report = evaluate_models(options, out, begin)
    else:
        digits = data.load(options.data, options.data_path)
        with open_job(options, digits) as job:
            out = job.run_dir.path
            previous, allowed = previous_report(job.run_dir.report), options.allow_trained_rows
            report = evaluate(job, digits.y_test, begin, resumed=True, allowed=allowed, previous=previous)
    print_summary(report, RunDir(out).report, RunDir(out).page)


def print_summary(report: Report, *paths: Path) -> None:
    """Print the table, and a last line with the accuracy, the time, and those files of a directory that exist."""
    show(report)
    accuracy = report.ensemble.test_accuracy
    accuracy_text = "unknown: no labels" if accuracy is None else percent(accuracy)
    files = ", ".join(path.name for path in paths if path.is_file())
    result(f"test accuracy {accuracy_text}; {report.total_seconds:.0f} s; {paths[0].parent}: {files}")


if __name__ == "__main__":
    run(main, EvaluateOptions)
