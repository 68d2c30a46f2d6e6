"""Predicts the validation and the test images with every trained model, with test-time augmentation."""

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.manifest import check_manifest, is_up_to_date, manifest_hash

from .cli.console import percent, say
from .cli.job import Job, compute, open_job
from .cli.options import Options, run
from .cli.run_dir import Member
from .reporting.metrics import accuracy_or_none


def predict_member(job: Job, member: Member) -> None:
    """Write the predictions of a trained model: valid.npz and test.npz, each an array `log_probs` (V, N, K)."""
    folder, predictions = job.run_dir.member(member), job.run_dir.predictions(member)
    made_from = {"network": manifest_hash(folder), "data_sha256": job.data.sha256, "views": job.preset.views}
    if is_up_to_date(predictions, made_from):
        return
    from jaxnets.devices import local_devices
    from jaxnets.inference.tta import tta
    from jaxnets.runs import open_run

    images = {"valid": job.data.valid_images, "test": job.data.digits.x_test}
    with compute(job, f"predict {member.name}", predictions, made_from) as temporary:
        log_probs = tta(open_run(folder), images, views=job.preset.views, devices=local_devices(job.hardware.devices))
        for name, array in log_probs.items():
            np.savez(temporary / f"{name}.npz", log_probs=array)
    say(f"{member.name:<20} predicted{describe_accuracy(log_probs['valid'], job.data.valid_labels)}")


def describe_accuracy(log_probs: np.ndarray, labels: np.ndarray) -> str:
    """log_probs (V, N, K), labels (N,) -> the accuracy without and with V views; empty if there are no labels."""
    from jaxnets.inference.ensemble import combine

    if not len(labels):
        return ""
    text = f"  valid {percent(accuracy_or_none(log_probs[0], labels))}"
    if len(log_probs) > 1:
        text += f", with {len(log_probs)} views {percent(accuracy_or_none(combine(log_probs), labels))}"
    return text


def read_log_probs(job: Job, members: list[Member]) -> dict[str, np.ndarray]:
    """Return the log-probabilities of M models for the validation and the test images, (M, V, N, K) each.

    Raises InputError if some are missing or damaged, or their model was trained again, and DivergedError if some are
    not finite.
    """
    from jaxnets.inference.predict import require_finite

    arrays: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    for member in members:
        folder = job.run_dir.predictions(member)
        if not folder.is_dir() or check_manifest(folder)["network"] != manifest_hash(job.run_dir.member(member)):
            raise InputError(folder, "holds no predictions of this model", "run experiments.predict, or the pipeline")
        for name, stack in arrays.items():
            with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                stack.append(require_finite(file["log_probs"], f"{folder / name}.npz"))
    return {name: np.stack(stack) for name, stack in arrays.items()}


def trained(job: Job) -> list[Member]:
    """Return the trained members of an experiment, teachers first. Raises InputError if there are none."""
    members = [member for member in job.members() if job.is_trained(member)]
    if not members:
        raise InputError(job.run_dir.members, "holds no trained model", "run experiments.train or the pipeline first")
    return members


def main(options: Options) -> None:
    with open_job(options, data.load(options.data, options.data_path)) as job:
        for member in trained(job):
            predict_member(job, member)


if __name__ == "__main__":
    run(main, Options)
