"""Test-time augmentation: the log-probabilities of every trained network for the validation and the test images."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.console import percent, say
from experiments.cli.options import Options, run
from experiments.cli.output_dir import Job, compute, open_job
from experiments.reporting.metrics import accuracy_or_none
from jaxnets.errors import InputError
from jaxnets.store.manifest import check, identity, is_up_to_date


def predict_member(job: Job, network: Path) -> None:
    """Leaves predictions/NAME/ with valid.npz and test.npz, each an array `log_probs` (V, N, K), of a trained run."""
    folder = predictions(job, network)
    origin = {"network": identity(network), "data_sha256": job.data_sha256, "views": job.preset.views}
    if is_up_to_date(folder, origin):
        return
    from jaxnets.devices import local_devices
    from jaxnets.inference.ensemble import combine
    from jaxnets.inference.tta import tta
    from jaxnets.runs import open_run

    with compute(job, f"predict {network.name}", folder, origin) as draft:
        answers = tta(open_run(network), job.pictures(), views=job.preset.views, devices=local_devices(job.devices))
        for name, log_probs in answers.items():
            np.savez(draft / f"{name}.npz", log_probs=log_probs)
    labels = job.valid_labels()
    plain, views = accuracy_or_none(answers["valid"][0], labels), accuracy_or_none(combine(answers["valid"]), labels)
    through = f", with {job.preset.views} views {percent(views)}" if job.preset.views > 1 else ""
    say(f"{network.name:<20} predicted  valid {percent(plain)}{through}")


def predictions(job: Job, network: Path) -> Path:
    return job.out / "predictions" / network.name


def read_log_probs(job: Job, networks: list[Path]) -> dict[str, np.ndarray]:
    """The predictions of several runs for the validation and the test images, (M, V, N, K) each.

    Raises:
        InputError: they are missing, damaged, or of a network that was trained anew.
        DivergedError: some are not finite.
    """
    from jaxnets.inference.predict import require_finite

    answers: dict[str, Any] = {"valid": [], "test": []}
    for network in networks:
        folder = predictions(job, network)
        if not folder.is_dir() or check(folder)["network"] != identity(network):
            raise InputError(folder, "holds no answers of this network", "run experiments.predict, or the pipeline")
        for name, arrays in answers.items():
            with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                arrays.append(require_finite(file["log_probs"], f"{folder / name}.npz"))
    return {name: np.stack(arrays) for name, arrays in answers.items()}


def trained(job: Job) -> list[Path]:
    """The finished members of a job, teachers first."""
    folders = [folder for folder in (*job.teachers(), *job.students()) if folder.is_dir()]
    if not folders:
        raise InputError(job.out / "members", "holds no trained network", "run experiments.train or the pipeline first")
    return folders


def main(options: Options) -> None:
    with open_job(options) as job:
        for folder in trained(job):
            predict_member(job, folder)


if __name__ == "__main__":
    run(main, Options)
