"""Trains one network of a preset, or goes on training it: a folder under members/ with its state and history."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.console import say, training_line
from experiments.options import Job, Options, open_job, run
from jaxnets.errors import InputError
from jaxnets.files import read_json
from jaxnets.rows import write_rows


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    family: str = "resnet"
    """resnet, deep_cnn, wide_cnn, inception or senet."""
    student: bool = False
    """Train on pseudo-labels too: `pseudo_label` must have chosen them."""


def train_member(job: Job, folder: Path, family: str, seed: int, *, pseudo_labels: Path | None = None) -> None:
    """Leaves a trained network in `folder`, which is complete or absent; what is not finished lies in a hidden one."""
    if folder.is_dir():
        return
    from jaxnets.runs import RunConfig
    from jaxnets.training.fit import Validation, fit
    from jaxnets.training.step import Examples, labelled

    digits = job.digits
    examples = labelled(digits.x_train[job.train_rows], digits.y_train[job.train_rows], digits.num_classes)
    chosen = None
    if pseudo_labels is not None:
        path = pseudo_labels / "selected.npz"
        if not path.is_file():
            raise InputError(path, "is missing", "run experiments.pseudo_label first")
        with np.load(path) as file:
            extra = digits.x_test[file["rows"]], file["targets"], file["weights"]
        examples = Examples(*(np.concatenate(pair) for pair in zip(examples, extra, strict=True)))
        chosen = len(extra[0])
    config = RunConfig.of(
        job.preset.recipe(family),
        digits,
        seed=seed,
        precision=job.precision,
        data_sha256=job.data_sha256,
        pseudo_labels=chosen,
    )
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    valid = Validation(digits.x_train[job.valid_rows], job.valid_labels())
    with training_line(folder.name) as report:
        fit(unfinished, config, examples, valid, job.devices, report)
    write_rows(unfinished, digits.x_train[job.train_rows])
    os.rename(unfinished, folder)


def main(options: TrainOptions) -> None:
    job = open_job(options)
    folder = job.member(options.family, options.seed, student=options.student)
    pseudo_labels = job.out / "pseudo_labels" if options.student else None
    train_member(job, folder, options.family, options.seed, pseudo_labels=pseudo_labels)
    say(f"{folder}: trained, {read_json(folder / 'config.json')['recipe']['training']['epochs']} epochs")


if __name__ == "__main__":
    run(main, TrainOptions)
