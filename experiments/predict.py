"""Test-time augmentation: the log-probabilities of every trained network for the validation and the test images."""

from pathlib import Path

import numpy as np

from experiments.console import percent, say
from experiments.options import Job, Options, open_job, run
from jaxnets.errors import InputError
from jaxnets.files import atomic_file


def predict_member(job: Job, folder: Path) -> None:
    """Leaves log_probs_valid.npz and log_probs_test.npz, each an array `log_probs` (V, N, K), in a trained run's
    folder."""
    files = {name: folder / f"log_probs_{name}.npz" for name in ("valid", "test")}
    if all(path.is_file() for path in files.values()):
        return
    from jaxnets.inference.ensemble import accuracy, combine
    from jaxnets.inference.tta import tta
    from jaxnets.runs import open_run

    answers = tta(open_run(folder), job.pictures(), views=job.preset.views, devices=job.devices)
    for name, log_probs in answers.items():
        with atomic_file(files[name]) as draft, draft.open("wb") as file:
            np.savez(file, log_probs=log_probs)
    labels = job.valid_labels()
    plain, views = accuracy(answers["valid"][0], labels), accuracy(combine(answers["valid"]), labels)
    say(f"{folder.name:<20} predicted  valid {percent(plain)}, with {job.preset.views} views {percent(views)}")


def read_log_probs(folders: list[Path], name: str) -> np.ndarray:
    """The predictions of several runs, (M, V, N, K); `name` is valid or test."""
    answers = []
    for folder in folders:
        path = folder / f"log_probs_{name}.npz"
        if not path.is_file():
            raise InputError(path, "is missing", "train and predict this network first, or run the pipeline")
        with np.load(path) as file:
            answers.append(file["log_probs"])
    return np.stack(answers)


def trained(job: Job) -> list[Path]:
    """The finished members of a job, teachers first."""
    folders = [folder for folder in (*job.teachers(), *job.students()) if folder.is_dir()]
    if not folders:
        raise InputError(job.out / "members", "holds no trained network", "run experiments.train or the pipeline first")
    return folders


def main(options: Options) -> None:
    job = open_job(options)
    for folder in trained(job):
        predict_member(job, folder)


if __name__ == "__main__":
    run(main, Options)
