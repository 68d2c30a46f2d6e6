"""Trains one model of a preset, or continues its training, and leaves it in a directory under members/."""

import hashlib
import signal
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from jaxnets import data
from jaxnets.config import Preset
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json
from jaxnets.store.lock import locked
from jaxnets.store.manifest import REBUILD_HINT, check_manifest, commit_folder
from jaxnets.store.train_rows import write_rows

from .cli.console import describe, result, training_line
from .cli.distributed import barrier, heartbeats, synchronized_stop
from .cli.exit_codes import Stopped, deferred
from .cli.job import Job, open_job
from .cli.options import Family, Options, default, run
from .cli.run_dir import Member
from .cli.tensorboard import event_file

if TYPE_CHECKING:
    from jaxnets.runs import RunConfig
    from jaxnets.training.fit import Progress
    from jaxnets.training.step import Examples

PSEUDO_LABEL_SETTINGS = ("pseudo_labels", "pseudo_labels_sha256")
"""Settings of a student that describe its pseudo-labels: their number, and the checksum of their file."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    family: Family = "resnet"
    """Model family to train."""
    network_seed: Annotated[int | None, default("--seed")] = None
    """Seed of this model, if the experiment has several models per family."""
    student: bool = False
    """Train on pseudo-labels too. Run experiments.pseudo_label first."""


def train_member(job: Job, member: Member) -> None:
    """Train a model of an experiment, or finish its training. Its directory is complete and sealed, or absent.

    An unfinished training is kept in a hidden directory next to it.

    Raises:
        InputError: the directory holds another model, or a damaged one.
        DivergedError: as `fit` does.
    """
    from jaxnets.devices import is_primary

    folder = job.run_dir.member(member)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    config, examples = prepare(job, member)
    train_rows = hashlib.sha256(job.data.train_rows.astype(np.int64).tobytes()).hexdigest()
    made_from = {"config": config.settings(), "train_rows": train_rows}
    with locked(folder.with_name(f".{folder.name}.lock")) if is_primary() else nullcontext():
        if folder.is_dir():
            check_trained(folder, made_from, identical=job.identical)
            return
        if unfinished.is_symlink():
            raise InputError(unfinished, "is a link", "remove it")
        if is_primary():
            job.check_environment()
        train(job, member, unfinished, config, examples)
        if is_primary():
            write_rows(unfinished, job.data.digits.x_train[job.data.train_rows])
            commit_folder(unfinished, folder, made_from)


def prepare(job: Job, member: Member) -> "tuple[RunConfig, Examples]":
    """Return how a member is trained, and its examples; those of a student include pseudo-labelled test images."""
    from jaxnets.runs import RunConfig
    from jaxnets.training.step import Examples, one_hot_examples

    digits, rows = job.data.digits, job.data.train_rows
    examples = one_hot_examples(digits.x_train[rows], digits.y_train[rows], digits.num_classes)
    count = sha256 = None
    if member.student:
        extra, sha256 = read_pseudo_labels(job.run_dir.pseudo_labels, digits.x_test)
        examples = Examples(*(np.concatenate(arrays) for arrays in zip(examples, extra, strict=True)))
        count = len(extra.weights)
    config = RunConfig.of(
        job.preset.recipe(member.family),
        digits,
        seed=member.seed,
        precision=job.hardware.precision,
        data_sha256=job.data.sha256,
        pseudo_labels=count,
        pseudo_labels_sha256=sha256,
    )
    return config, examples


def train(job: Job, member: Member, folder: Path, config: "RunConfig", examples: "Examples") -> None:
    """Train in `folder` until the last epoch, with progress and TensorBoard events. Raises Stopped at a signal."""
    from jaxnets.devices import is_primary
    from jaxnets.training.fit import Validation, fit

    valid, devices = Validation(job.data.valid_images, job.data.valid_labels), job.hardware.devices
    with (
        training_line(member.name) as show,
        event_file(job.run_dir.tensorboard(member), wanted=job.tensorboard and is_primary()) as write_events,
        heartbeats(job.heartbeat) as heartbeat,
        deferred() as should_stop,
    ):

        def report(progress: "Progress") -> None:
            heartbeat(describe(member.name, progress))
            show(progress)
            if not progress.step:
                write_events(progress.last)

        stop = synchronized_stop(should_stop)
        finished = fit(folder, config, examples, valid, devices, report, stop, identical=job.identical)
    if not finished:
        raise Stopped(signal.SIGTERM)


def check_trained(folder: Path, made_from: dict[str, Any], *, identical: bool) -> None:
    """Raise InputError unless the model in `folder` is complete and was trained with exactly these settings.

    A student that differs in its pseudo-labels only is kept, with a warning, unless results must be `identical`.
    """
    found = check_manifest(folder)
    if found == made_from:
        return
    wanted, saved = made_from["config"], found.get("config", {})
    labels = {name: saved[name] for name in PSEUDO_LABEL_SETTINGS if wanted[name] and saved.get(name)}
    if not labels or found != made_from | {"config": wanted | labels}:
        raise InputError(folder, "was trained with other settings or pseudo-labels", REBUILD_HINT)
    problem = "was trained on other pseudo-labels than the current ones"
    if identical:
        raise InputError(folder, problem, "delete it to train it again, or leave out --require-identical")
    warnings.warn(f"{folder}: {problem}; it is kept. Delete it to train it again", stacklevel=2)


def read_pseudo_labels(folder: Path, images: np.ndarray) -> "tuple[Examples, str]":
    """images (T, H, W, C) -> the selected ones with soft targets, and the SHA-256 of the selection."""
    from jaxnets.training.step import Examples

    if not folder.is_dir():
        raise InputError(folder, "is missing", "run experiments.pseudo_label first")
    check_manifest(folder)
    path = folder / "selected.npz"
    with np.load(path, allow_pickle=False) as file:
        selected = Examples(images[file["rows"]], file["targets"], file["weights"])
    return selected, hashlib.sha256(path.read_bytes()).hexdigest()


def main(options: TrainOptions) -> None:
    seed = options.seed if options.network_seed is None else options.network_seed

    def check_member(preset: Preset) -> None:
        preset.recipe(options.family, option="--family")
        seeds = range(options.seed, options.seed + preset.seeds)
        if options.student and seed != options.seed:
            raise InputError("--network-seed", f"is {seed}, but students have the seed of --seed", "leave it out")
        if seed not in seeds:
            raise InputError("--network-seed", f"is {seed}", f"give {' or '.join(map(str, seeds))}, or more --seeds")

    member = Member(options.family, seed, student=options.student)
    digits = data.load(options.data, options.data_path)
    # Other programs may train other models of the experiment at the same time.
    with open_job(
        options, digits, begins=not options.student, exclusive=False, distributed=True, check=check_member
    ) as job:
        train_member(job, member)
        barrier("trained")
    folder = job.run_dir.member(member)
    result(f"{folder}: trained, {read_json(folder / 'config.json')['recipe']['training']['epochs']} epochs")


if __name__ == "__main__":
    run(main, TrainOptions)
