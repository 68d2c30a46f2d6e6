"""Averages the predictions of all trained networks into one answer an image: ensemble/ and submission.csv."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.console import percent, say
from experiments.options import Job, Options, open_job, run
from experiments.predict import read_log_probs, trained
from experiments.scores import combine_views, summarise
from jaxnets.data import write_submission
from jaxnets.files import atomic_folder, read_json, remove, write_json


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    fit_weights: bool = False
    """Fit the networks' weights on the validation rows instead of weighing all alike."""


def combine_members(job: Job, folders: list[Path], *, fit_weights: bool = False) -> None:
    """Leaves ensemble/ with log_probs_valid.npz, log_probs_test.npz (N, K) and summary.json, and submission.csv. If
    they were made of other networks or weights, they are made anew."""
    folder = job.out / "ensemble"
    made = {"members": [member.name for member in folders], "fitted_weights": fit_weights}
    summary = read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
    if any(summary.get(key) != value for key, value in made.items()):
        for path in (folder, job.out / "submission.csv", job.out / "report.json"):
            remove(path)
    if not folder.is_dir():
        from jaxnets.inference.ensemble import combine
        from jaxnets.inference.ensemble import fit_weights as fitted

        views = {name: read_log_probs(folders, name) for name in ("valid", "test")}
        valid, test = map(combine_views, views.values())
        weights = fitted(valid, job.valid_labels()) if fit_weights else np.full(len(folders), 1 / len(folders))
        with atomic_folder(folder) as draft:
            np.savez(draft / "log_probs_valid.npz", log_probs=combine(valid, weights))
            np.savez(draft / "log_probs_test.npz", log_probs=combine(test, weights))
            summary = summarise(views["valid"], weights, job.valid_labels())
            write_json(draft / "summary.json", made | {"weights": weights.tolist()} | summary)
    if not (job.out / "submission.csv").is_file():
        with np.load(folder / "log_probs_test.npz") as file:
            write_submission(job.out / "submission.csv", file["log_probs"].argmax(axis=-1))


def main(options: EnsembleOptions) -> None:
    job = open_job(options)
    combine_members(job, trained(job), fit_weights=options.fit_weights)
    summary = read_json(job.out / "ensemble" / "summary.json")
    say(f"{len(summary['members'])} networks: valid {percent(summary['tta_valid_accuracy'])}; {job.out}/submission.csv")


if __name__ == "__main__":
    run(main, EnsembleOptions)
