"""Averages the predictions of all trained models, and writes ensemble/ and submission.csv."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaxnets import data
from jaxnets.data.submission import write_submission
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file, read_json, write_json
from jaxnets.store.manifest import check_manifest, is_up_to_date, manifest_hash

from .cli.console import percent, result
from .cli.job import Job, compute, open_job
from .cli.options import Options, run
from .cli.run_dir import Member, RunDir
from .predict import read_log_probs, trained
from .reporting.metrics import EnsembleSummary, add_validation, mean_over_views


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    fit_weights: bool = False
    """Fit the weights of the models on the validation rows, instead of weighting all equally."""


def combine_members(job: Job, members: list[Member], *, fit_weights: bool = False) -> None:
    """Write ensemble/: log_probs_valid.npz and log_probs_test.npz (N, K), summary.json and submission.csv.

    submission.csv is copied to the output directory. Everything is computed again if predictions or weights changed.
    """
    folder = job.run_dir.ensemble
    if fit_weights and not len(job.data.valid_rows):
        raise InputError("--fit-weights", f"preset {job.preset.name} holds out no rows to fit them on", "leave it out")
    predictions = {member.name: manifest_hash(job.run_dir.predictions(member)) for member in members}
    made_from = {"predictions": predictions, "fitted_weights": fit_weights}
    if not is_up_to_date(folder, made_from):
        with compute(job, "ensemble", folder, made_from) as temporary:
            write_ensemble(job, members, temporary, fit_weights=fit_weights)
    publish_submission(folder / "submission.csv", job.run_dir.submission)


def write_ensemble(job: Job, members: list[Member], folder: Path, *, fit_weights: bool) -> None:
    """Combine the predictions of the members, and fill `folder` with the results."""
    from jaxnets.inference import ensemble

    views, labels = read_log_probs(job, members), job.data.valid_labels
    valid, test = mean_over_views(views["valid"]), mean_over_views(views["test"])
    weights = ensemble.fit_weights(valid, labels) if fit_weights else np.full(len(members), 1 / len(members))
    names = [member.name for member in members]
    summary = EnsembleSummary(members=names, fitted_weights=fit_weights, weights=weights.tolist())
    summary = add_validation(summary, views["valid"], valid, labels)
    log_probs = ensemble.combine(test, weights)
    np.savez(folder / "log_probs_valid.npz", log_probs=ensemble.combine(valid, weights))
    np.savez(folder / "log_probs_test.npz", log_probs=log_probs)
    write_json(folder / "summary.json", asdict(summary))
    write_submission(folder / "submission.csv", log_probs.argmax(axis=-1))


def read_ensemble(out: Path) -> EnsembleSummary:
    """Return the summary of the ensemble in an output directory. Raises InputError if it is missing or damaged, or if
    its members have predicted again since it was made."""
    run_dir = RunDir(out)
    if not run_dir.ensemble.is_dir():
        raise InputError(run_dir.ensemble, "is missing", "run experiments.ensemble or the pipeline first")
    made_from = check_manifest(run_dir.ensemble).get("predictions")
    summary = EnsembleSummary(**read_json(run_dir.ensemble / "summary.json"))
    members = map(Member.parse, summary.members)
    if made_from != {member.name: manifest_hash(run_dir.predictions(member)) for member in members}:
        raise InputError(run_dir.ensemble, "was made from other predictions", "run experiments.ensemble again")
    return summary


def publish_submission(source: Path, target: Path) -> None:
    """Copy the file, unless the target has the same content."""
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        with atomic_file(target) as temporary:
            temporary.write_bytes(content)


def main(options: EnsembleOptions) -> None:
    with open_job(options, data.load(options.data, options.data_path)) as job:
        combine_members(job, trained(job), fit_weights=options.fit_weights)
    summary = read_ensemble(job.run_dir.path)
    accuracy = "" if summary.tta_valid_accuracy is None else f"valid {percent(summary.tta_valid_accuracy)}; "
    result(f"{len(summary.members)} models: {accuracy}{job.run_dir.submission}")


if __name__ == "__main__":
    run(main, EnsembleOptions)
