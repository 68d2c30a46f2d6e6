"""Averages the predictions of all trained networks into one answer an image: ensemble/ and submission.csv."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.console import percent, result
from experiments.cli.options import Options, run
from experiments.cli.output_dir import Job, compute, open_job
from experiments.predict import predictions, read_log_probs, trained
from experiments.reporting.metrics import mean_over_views, summarise
from jaxnets.data.submission import write_submission
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file, read_json, write_json
from jaxnets.store.manifest import check, identity, is_up_to_date


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    fit_weights: bool = False
    """Fit the networks' weights on the validation rows instead of weighing all alike."""


def combine_members(job: Job, networks: list[Path], *, fit_weights: bool = False) -> None:
    """Leaves ensemble/ with log_probs_valid.npz, log_probs_test.npz (N, K), summary.json and submission.csv, which is
    copied to the job's folder. If it was made of other predictions or weights, it is made anew."""
    folder = job.out / "ensemble"
    if fit_weights and not len(job.valid_rows):
        raise InputError("--fit-weights", f"preset {job.preset.name} holds out no rows to fit them on", "leave it out")
    origin = {
        "predictions": {network.name: identity(predictions(job, network)) for network in networks},
        "fitted_weights": fit_weights,
    }
    if not is_up_to_date(folder, origin):
        from jaxnets.inference.ensemble import combine
        from jaxnets.inference.ensemble import fit_weights as fitted

        with compute(job, "ensemble", folder, origin) as draft:
            views = read_log_probs(job, networks)
            valid, test = map(mean_over_views, views.values())
            weights = fitted(valid, job.valid_labels()) if fit_weights else np.full(len(networks), 1 / len(networks))
            names = {"members": [network.name for network in networks], "fitted_weights": fit_weights}
            summary = summarise(views["valid"], weights, job.valid_labels())
            log_probs = combine(test, weights)
            np.savez(draft / "log_probs_valid.npz", log_probs=combine(valid, weights))
            np.savez(draft / "log_probs_test.npz", log_probs=log_probs)
            write_json(draft / "summary.json", names | {"weights": weights.tolist()} | summary)
            write_submission(draft / "submission.csv", log_probs.argmax(axis=-1))
    publish_submission(folder / "submission.csv", job.out / "submission.csv")


def read_ensemble(out: Path) -> dict[str, Any]:
    """-> the summary of a job's ensemble; InputError where it is missing or damaged, or its networks have predicted
    anew since: the answers of then and of now are not to be mixed."""
    folder = out / "ensemble"
    if not folder.is_dir():
        raise InputError(folder, "is missing", "run experiments.ensemble or the pipeline first")
    made_from = check(folder).get("predictions")
    summary = read_json(folder / "summary.json")
    if made_from != {name: identity(out / "predictions" / name) for name in summary["members"]}:
        raise InputError(folder, "was made from other predictions", "run experiments.ensemble again")
    return summary


def publish_submission(source: Path, target: Path) -> None:
    """Copies the sealed file unless it is there already."""
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        with atomic_file(target) as draft:
            draft.write_bytes(content)


def main(options: EnsembleOptions) -> None:
    with open_job(options) as job:
        combine_members(job, trained(job), fit_weights=options.fit_weights)
    summary = read_json(job.out / "ensemble" / "summary.json")
    valid = percent(summary["tta_valid_accuracy"])
    result(f"{len(summary['members'])} networks: valid {valid}; {job.out}/submission.csv")


if __name__ == "__main__":
    run(main, EnsembleOptions)
