"""Averages the predictions of all trained networks into one answer an image: ensemble/ and submission.csv."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.console import percent, say
from experiments.options import Job, Options, open_job, run
from experiments.predict import read_log_probs, trained
from jaxnets.data import write_submission
from jaxnets.files import atomic_folder, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions(Options):
    fit_weights: bool = False
    """Fit the networks' weights on the validation rows instead of weighing all alike."""


def combine_members(job: Job, folders: list[Path], *, fit_weights: bool = False) -> None:
    """Leaves ensemble/ with log_probs_valid.npz, log_probs_test.npz (N, K) and summary.json, and submission.csv."""
    folder = job.out / "ensemble"
    if not folder.is_dir():
        from jaxnets.inference.ensemble import combine
        from jaxnets.inference.ensemble import fit_weights as fitted

        valid, test = (
            np.stack([combine(views) for views in read_log_probs(folders, name)]) for name in ("valid", "test")
        )
        weights = fitted(valid, job.valid_labels()) if fit_weights else np.full(len(folders), 1 / len(folders))
        answers = {"valid": combine(valid, weights), "test": combine(test, weights)}
        with atomic_folder(folder) as draft:
            for name, log_probs in answers.items():
                np.savez(draft / f"log_probs_{name}.npz", log_probs=log_probs)
            write_json(draft / "summary.json", summarise(job, folders, weights, answers["valid"]))
    if not (job.out / "submission.csv").is_file():
        with np.load(folder / "log_probs_test.npz") as file:
            write_submission(job.out / "submission.csv", file["log_probs"].argmax(axis=-1))


def summarise(job: Job, folders: list[Path], weights: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
    """valid: the ensemble's log_probs (N, K) with all views."""
    from jaxnets.inference.calibrate import apply_temperature, calibration_error, fit_temperature
    from jaxnets.inference.ensemble import accuracy, combine, nll

    labels = job.valid_labels()
    plain = combine(read_log_probs(folders, "valid")[:, 0], weights)
    temperature = fit_temperature(valid, labels)
    calibrated = apply_temperature(valid, temperature)
    return {
        "members": [folder.name for folder in folders],
        "weights": weights.tolist(),
        "valid_accuracy": accuracy(plain, labels),
        "tta_valid_accuracy": accuracy(valid, labels),
        "temperature": temperature,
        "valid_nll": nll(valid, labels),
        "valid_nll_calibrated": nll(calibrated, labels),
        "valid_calibration_error": calibration_error(valid, labels),
        "valid_calibration_error_calibrated": calibration_error(calibrated, labels),
    }


def main(options: EnsembleOptions) -> None:
    job = open_job(options)
    combine_members(job, trained(job), fit_weights=options.fit_weights)
    summary = read_json(job.out / "ensemble" / "summary.json")
    say(f"{len(summary['members'])} networks: valid {percent(summary['tta_valid_accuracy'])}; {job.out}/submission.csv")


if __name__ == "__main__":
    run(main, EnsembleOptions)
