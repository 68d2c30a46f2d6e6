"""Trains one network of a preset, or goes on training it: a folder under members/ with its state and history."""

import hashlib
import signal
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.cli.console import describe, result, training_line
from experiments.cli.distributed import barrier, heartbeats, synchronized_stop
from experiments.cli.exit_codes import Stopped, deferred
from experiments.cli.options import Options, run
from experiments.cli.output_dir import Job, open_job
from experiments.cli.tensorboard import event_file
from jaxnets.config import Preset
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json
from jaxnets.store.lock import locked
from jaxnets.store.manifest import FIX, check, seal_into_place
from jaxnets.store.train_rows import write_rows

if TYPE_CHECKING:
    from jaxnets.training.fit import Progress
    from jaxnets.training.step import Examples

LABELS = ("pseudo_labels", "pseudo_labels_sha256")
"""What a network's settings say of pseudo-labels: how many, and which."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    family: str = "resnet"
    """resnet, deep_cnn, wide_cnn, inception or senet."""
    network_seed: int | None = None
    """Of this network, where a job has several of a family: --seed unless given."""
    student: bool = False
    """Train on pseudo-labels too: `pseudo_label` must have chosen them."""


def train_member(job: Job, folder: Path, family: str, seed: int, *, pseudo_labels: Path | None = None) -> None:
    """Leaves a trained network in `folder`, which is sealed or absent; what is not finished lies in a hidden one.

    Raises InputError where the folder holds another network, or a damaged one; DivergedError as `fit` does.
    """
    from jaxnets.devices import is_primary
    from jaxnets.runs import RunConfig
    from jaxnets.training.fit import Validation, fit
    from jaxnets.training.step import Examples, one_hot_examples

    digits = job.digits
    examples = one_hot_examples(digits.x_train[job.train_rows], digits.y_train[job.train_rows], digits.num_classes)
    facts: dict[str, Any] = {"seed": seed, "precision": job.precision, "data_sha256": job.data_sha256}
    if pseudo_labels is not None:
        extra, sha256 = read_pseudo_labels(pseudo_labels, digits.x_test)
        examples = Examples(*(np.concatenate(pair) for pair in zip(examples, extra, strict=True)))
        facts |= {"pseudo_labels": len(extra.weights), "pseudo_labels_sha256": sha256}
    config = RunConfig.of(job.preset.recipe(family), digits, **facts)
    rows = hashlib.sha256(job.train_rows.astype(np.int64).tobytes()).hexdigest()
    made_from = {"config": config.settings(), "train_rows": rows}
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    valid = Validation(digits.x_train[job.valid_rows], job.valid_labels())
    with locked(folder.with_name(f".{folder.name}.lock")) if is_primary() else nullcontext():
        if folder.is_dir():
            return check_trained(folder, made_from, identical=job.identical)
        if unfinished.is_symlink():
            raise InputError(unfinished, "is a link", "remove it")
        if is_primary():
            job.compare()
        wanted = job.tensorboard and is_primary()
        events = event_file(job.out / "tensorboard" / folder.name, wanted=wanted)
        with training_line(folder.name) as show, events as write, heartbeats() as pulse, deferred() as stopping:

            def report(progress: "Progress") -> None:
                pulse(describe(folder.name, progress))
                show(progress)
                if not progress.step:
                    write(progress.last)

            places = unfinished, config, examples, valid, job.devices
            finished = fit(*places, report, synchronized_stop(stopping), identical=job.identical)
        if not finished:
            raise Stopped(signal.SIGTERM)
        if is_primary():
            write_rows(unfinished, digits.x_train[job.train_rows])
            seal_into_place(unfinished, folder, made_from)


def check_trained(folder: Path, made_from: dict[str, Any], *, identical: bool) -> None:
    """InputError unless the network in `folder` is whole, and was made from just that. Of a student only the
    pseudo-labels may differ, if the bits need not be `identical`: it is kept, with a warning."""
    found = {"train_rows": made_from["train_rows"]} | check(folder)  # older seals do not name the rows
    if found == made_from:
        return
    ours, theirs = made_from["config"], found.get("config", {})
    labels = {name: theirs[name] for name in LABELS if ours[name] and theirs.get(name)}
    if not labels or found != made_from | {"config": ours | labels}:
        raise InputError(folder, "was trained with other settings or pseudo-labels", FIX)
    problem = "was trained on other pseudo-labels than those that are chosen now"
    if identical:
        raise InputError(folder, problem, "delete it to train it again, or leave out --require-identical")
    warnings.warn(f"{folder}: {problem}; it is kept. Delete it to train it again", stacklevel=2)


def read_pseudo_labels(folder: Path, images: np.ndarray) -> "tuple[Examples, str]":
    """-> the chosen ones of the test images (T, H, W, C) with soft targets, and the SHA-256 of what was chosen."""
    from jaxnets.training.step import Examples

    if not folder.is_dir():
        raise InputError(folder, "is missing", "run experiments.pseudo_label first")
    check(folder)
    path = folder / "selected.npz"
    with np.load(path, allow_pickle=False) as file:
        chosen = Examples(images[file["rows"]], file["targets"], file["weights"])
    return chosen, hashlib.sha256(path.read_bytes()).hexdigest()


def main(options: TrainOptions) -> None:
    seed = options.seed if options.network_seed is None else options.network_seed

    def check_member(preset: Preset) -> None:
        preset.recipe(options.family)
        seeds = range(options.seed, options.seed + preset.seeds)
        if options.student and seed != options.seed:
            raise InputError("--network-seed", f"is {seed}, but students are of --seed alone", "leave it out")
        if seed not in seeds:
            raise InputError("--network-seed", f"is {seed}", f"give {' or '.join(map(str, seeds))}, or more --seeds")

    # Other networks of the job may be trained beside it.
    with open_job(options, alone=False, begins=not options.student, several=True, check=check_member) as job:
        folder = job.member(options.family, seed, student=options.student)
        pseudo_labels = job.out / "pseudo_labels" if options.student else None
        train_member(job, folder, options.family, seed, pseudo_labels=pseudo_labels)
        barrier("trained")
    result(f"{folder}: trained, {read_json(folder / 'config.json')['recipe']['training']['epochs']} epochs")


if __name__ == "__main__":
    run(main, TrainOptions)
