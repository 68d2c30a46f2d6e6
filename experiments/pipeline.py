"""The main job: trains five families, predicts through fixed views, labels what they are sure of for fresh students,
averages them all, and writes submission.csv, report.json and report.html. Interrupted, the same command goes on."""

import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.cli.console import say
from experiments.cli.distributed import barrier
from experiments.cli.options import ScoreOptions, is_distributed, run
from experiments.cli.output_dir import Job, open_job
from experiments.cluster.parallel_members import is_faster_in_parallel, train_in_parallel
from experiments.ensemble import combine_members
from experiments.evaluate import evaluate, origin, print_summary, read_report, run_info
from experiments.predict import predict_member
from experiments.pseudo_label import choose_pseudo_labels
from experiments.train import train_member
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.train_rows import hash_rows


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(ScoreOptions):
    parallel: Literal["auto", "data", "members"] = "auto"
    """data: network after network, each on all devices. members: several at once, each on one device or some cores.
    auto: members for long trainings on a CPU's cores."""


def main(options: PipelineOptions) -> None:
    begin = time.perf_counter()
    check_parallel(options)
    digits = data.load(options.data, options.data_path)
    if digits.y_test is not None and not options.allow_trained_rows:
        check_overlap(digits)
    with open_job(options, begins=True, several=True) as job:
        report = finish(job, options, digits.y_test, begin)
    clear_compiled_programs()
    if report is None:
        return
    print_summary(report, *(job.out / name for name in ("submission.csv", "report.json", "report.html")))


def clear_compiled_programs() -> None:
    """JAX keeps what it compiled, half a gigabyte a pipeline: many of them in one process would fill the memory."""
    import jax

    jax.clear_caches()


def finish(job: Job, options: PipelineOptions, test_labels: np.ndarray | None, begin: float) -> dict[str, Any] | None:
    """Does what is not done yet of a job -> its report. Of several processes all train, and the first does the rest."""
    from jaxnets.devices import is_primary

    resumed, allowed = (job.out / "members").is_dir(), options.allow_trained_rows
    networks = [*job.teachers(), *job.students()]
    if resumed:
        say(f"goes on: {sum(map(Path.is_dir, networks))} of {len(networks)} networks are trained")
    left_out = set((job.out / "members").glob("[!.]*")) - set(networks)
    if left_out and is_primary():
        warnings.warn(f"{len(left_out)} trained networks are left out: --seeds and --students add them", stacklevel=2)
    apart = options.parallel == "members" or (
        options.parallel == "auto" and not is_distributed(options) and is_faster_in_parallel(job)
    )
    if apart:
        train_in_parallel(job, options, job.teachers())
    for folder in job.teachers():
        family, _, seed = folder.name.rpartition("-")
        train_member(job, folder, family, int(seed))
        if is_primary():
            predict_member(job, folder)

    if job.preset.students:
        if is_primary():
            choose_pseudo_labels(job)
        barrier("pseudo-labels")
        if apart:
            train_in_parallel(job, options, job.students())
    for family, folder in zip(job.preset.students, job.students(), strict=True):
        train_member(job, folder, family, job.seed, pseudo_labels=job.out / "pseudo_labels")
        if is_primary():
            predict_member(job, folder)

    report = score(job, test_labels, begin, allowed=allowed, resumed=resumed) if is_primary() else None
    barrier("end")
    return report


def score(job: Job, test_labels: np.ndarray | None, begin: float, *, allowed: bool, resumed: bool) -> dict[str, Any]:
    """Averages the trained networks -> the report of them."""
    members = [*job.teachers(), *job.students()]
    combine_members(job, members)
    path = job.out / "report.json"
    if (job.out / "report.html").is_file():
        with suppress(InputError):  # of a report that is missing or damaged
            report = read_report(path)
            if report["made_from"] == origin(job.out / "ensemble", test_labels, allowed=allowed):
                return report
    return evaluate(job, test_labels, partial(run_info, begin, resumed=resumed), allowed=allowed)


def check_parallel(options: PipelineOptions) -> None:
    if options.parallel == "members":
        if is_distributed(options):
            raise InputError("--parallel", "members is for one process alone", "leave it out, or give data")
        # This process and the one that trains on it have to share each accelerator's memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def check_overlap(digits: data.Digits) -> None:
    """InputError, before anything is trained, if the networks could not be scored in the end."""
    shared = int(np.isin(hash_rows(digits.x_test), hash_rows(digits.x_train)).sum())
    if shared:
        problem = f"has {shared:,} test images among its training images: a score on them means nothing"
        raise InputError(f"data {digits.name}", problem, "take them out, or give --allow-trained-rows")


if __name__ == "__main__":
    run(main, PipelineOptions)
