"""Trains an ensemble of five model families, and writes submission.csv, report.json and report.html: training,
test-time augmentation, pseudo-labelling, ensembling, evaluation. If interrupted, the same command continues."""

import os
import time
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.train_rows import hash_rows

from .cli.console import say
from .cli.distributed import barrier
from .cli.job import Job, open_job
from .cli.options import Options, ScoreOptions, is_distributed, run
from .cli.run_dir import Member
from .cluster.parallel_members import is_faster_in_parallel, train_in_parallel
from .ensemble import combine_members
from .evaluate import evaluate, print_summary, provenance
from .predict import predict_member
from .pseudo_label import choose_pseudo_labels
from .reporting.metrics import Report
from .reporting.results import previous_report
from .train import train_member


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(ScoreOptions):
    parallel: Literal["auto", "data", "members"] = "auto"
    """data: train one model after the other, each on all devices. members: train several models at once, each on one
    device or on some of the cores. auto: members for long trainings on a CPU, else data."""


def main(options: PipelineOptions) -> None:
    import jax

    begin = time.perf_counter()
    check_parallel(options)
    digits = data.load(options.data, options.data_path)
    if digits.y_test is not None and not options.allow_trained_rows:
        check_overlap(digits)
    with open_job(options, digits, begins=True, distributed=True) as job:
        report = run_stages(job, options, digits.y_test, begin)
    jax.clear_caches()  # half a gigabyte per pipeline, if one process runs several
    if report is not None:
        print_summary(report, *job.run_dir.results)


def run_stages(job: Job, options: PipelineOptions, test_labels: np.ndarray | None, begin: float) -> Report | None:
    """Compute everything that is missing, and return the report; None in all processes but the first.

    All processes train; the first one computes the rest. `begin` is when the program began, by time.perf_counter.
    """
    from jaxnets.devices import is_primary

    resumed = job.run_dir.members.is_dir()
    if resumed:
        say(f"continues: {sum(map(job.is_trained, job.members()))} of {len(job.members())} models are trained")
    if is_primary():
        warn_of_excluded(job)
    is_free = options.parallel == "auto" and not is_distributed(options)
    in_parallel = options.parallel == "members" or (is_free and is_faster_in_parallel(job))
    train_and_predict(job, options, job.teachers(), in_parallel=in_parallel)
    if job.preset.students:
        if is_primary():
            choose_pseudo_labels(job)
        barrier("pseudo-labels")
        train_and_predict(job, options, job.students(), in_parallel=in_parallel)
    report = None
    if is_primary():
        report = combine_and_evaluate(job, test_labels, begin, allowed=options.allow_trained_rows, resumed=resumed)
    barrier("end")
    return report


def train_and_predict(job: Job, options: Options, members: list[Member], *, in_parallel: bool) -> None:
    from jaxnets.devices import is_primary

    if in_parallel:
        train_in_parallel(job, options, members)
    for member in members:
        train_member(job, member)
        if is_primary():
            predict_member(job, member)


def warn_of_excluded(job: Job) -> None:
    """Warn if the directory holds trained models that --seeds and --students exclude."""
    excluded = set(job.run_dir.members.glob("[!.]*")) - set(map(job.run_dir.member, job.members()))
    if excluded:
        warnings.warn(f"{len(excluded)} trained models are excluded by --seeds and --students", stacklevel=2)


def combine_and_evaluate(
    job: Job, test_labels: np.ndarray | None, begin: float, *, allowed: bool, resumed: bool
) -> Report:
    """Combine the trained models and return the report of them, which is kept if nothing changed."""
    combine_members(job, job.members())
    previous = previous_report(job.run_dir.report)
    made_from = provenance(job.run_dir.ensemble, test_labels, allowed=allowed)
    if previous is not None and previous.made_from == made_from and job.run_dir.page.is_file():
        return previous
    return evaluate(job, test_labels, begin, resumed=resumed, allowed=allowed)


def check_parallel(options: PipelineOptions) -> None:
    """Raise InputError if members cannot be trained in parallel as asked; prepare the environment if they can."""
    if options.parallel == "members":
        if is_distributed(options):
            raise InputError("--parallel", "members needs a single process", "leave it out, or give data")
        # This process and the worker that trains on a device share its memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def check_overlap(digits: data.Digits) -> None:
    """Raise InputError if test images are among the training images: the models could not be evaluated later."""
    shared = int(np.isin(hash_rows(digits.x_test), hash_rows(digits.x_train)).sum())
    if shared:
        problem = f"has {shared:,} test images among its training images, so an accuracy on them means nothing"
        raise InputError(f"data {digits.name}", problem, "take them out, or give --allow-trained-rows")


if __name__ == "__main__":
    run(main, PipelineOptions)
