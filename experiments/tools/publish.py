"""Publishes trained models as the pretrained models of the repository: weights, config, history, hashes of the training
rows, and test accuracies over the seeds of several runs. NumPy models have another format."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import InputError, short_message
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import check_manifest, committed_folder, manifest_hash
from jaxnets.store.train_rows import FILE_NAME
from scratch.weights import load_params, save_params

from ..cli.console import say
from ..cli.options import run
from ..cli.output_dir import read_settings
from ..ensemble import read_ensemble
from ..reporting.results import read_report
from ..scratch_checkpoint import check_made_from, read_history


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    jobs: tuple[Path, ...] = ()
    """Output directories of finished pipelines. The teachers of the first seed of the first one are published; the
    others add accuracies of further seeds."""
    scratch: Path | None = None
    """Output directory of a finished experiments.train_scratch. Its seed 0 is published as `scratch`."""
    out: Path = Path("checkpoints/pretrained")
    """Directory that gets one directory per family. Existing ones are not overwritten."""


class Publication(NamedTuple):
    """A model to publish: target directory, metadata of its manifest, result.json, and a function that writes the
    other files to a directory."""

    target: Path
    made_from: dict[str, Any]
    result: dict[str, Any]
    write_files: Callable[[Path], None]


def publication_of_run(source: Path, target: Path, result: dict[str, Any]) -> Publication:
    """Return the publication of a trained model with its averaged weights; raise InputError if it is damaged."""
    from jaxnets.runs import open_run
    from jaxnets.store.weights import write_weights

    trained = open_run(source)

    def write_files(draft: Path) -> None:
        write_weights(draft / "weights.npz", {"params": trained.params, "stats": trained.stats})
        for name in ("config.json", "metrics.csv", FILE_NAME):
            shutil.copyfile(source / name, draft / name)

    return Publication(target, {"network": manifest_hash(source)}, result, write_files)


def publication_of_scratch(source: Path, target: Path) -> Publication:
    """Return the publication of seed 0 of experiments.train_scratch, with the settings in its manifest."""
    seed, path = source / "seed-0", source / "report.json"
    for needed in (path, seed):
        if not needed.exists():
            fix = "give the output directory of a finished experiments.train_scratch"
            raise InputError(source, f"contains no {needed.name}", fix)
    report, job = read_report(path), read_settings(source)
    check_made_from(seed, job | {"seed": 0})
    if job.get("scored") != "test":
        raise InputError(source, "was evaluated on validation rows", "publish a training without --validate")
    if report.get("test_accuracies", [])[:1] != [read_history(seed / "metrics.csv")[-1]["test_accuracy"]]:
        raise InputError(path, "does not match the trained models", "run experiments.train_scratch again")
    params = load_params(seed / "weights.npz")

    def write_files(draft: Path) -> None:
        save_params(draft / "weights.npz", params)
        shutil.copyfile(seed / "metrics.csv", draft / "metrics.csv")
        write_json(draft / "settings.json", job["recipe"])

    result = {name: value for name, value in report.items() if name != "settings"}
    return Publication(target, job, result, write_files)


def command_of(report: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return the command of a run."""
    values = {"preset": report["preset"], "data": report["data"], "precision": settings["precision"]}
    if settings["fold"]:
        values["fold"] = " ".join(map(str, settings["fold"]))
    values |= {"seed": report["seed"], "seeds": len({member["seed"] for member in report["members"]})}
    return "python -m experiments.pipeline " + " ".join(f"--{name} {value}" for name, value in values.items())


def family_result(reports: list[dict[str, Any]], command: str, family: str) -> dict[str, Any]:
    """Return the test accuracies (last epoch, no TTA) of the teachers of one family in all reports."""
    teachers = [member for report in reports for member in report["members"] if not member["student"]]
    members = [member for member in teachers if member["family"] == family]
    accuracies = [member["test_accuracy"] for member in members]
    first = reports[0]
    return {
        "command": command,
        "device": first["device"],
        "jax_version": first["jax_version"],
        "train_seconds": members[0]["train_seconds"],
        "test_accuracy": accuracies[0],
        "test_accuracies_by_seed": {str(member["seed"]): member["test_accuracy"] for member in members},
        "mean": float(np.mean(accuracies)) if None not in accuracies else None,
        "sd": float(np.std(accuracies, ddof=1)) if None not in accuracies and len(members) > 1 else None,
    }


def read_reports(jobs: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Read the reports of all runs; raise InputError if their settings differ in more than the seed."""
    reports, settings = [], []
    for job in jobs:
        if not (job / "report.json").is_file():
            raise InputError(job, "contains no report.json", "give the output directory of a finished pipeline")
        reports.append(read_report(job / "report.json"))
        settings.append(read_settings(job) | {"seed": None})
        if settings[-1] != settings[0]:
            raise InputError(job, f"has other settings than {jobs[0]}", "publish it separately")
        check_members(job, reports[-1])
        if reports[-1]["trained_rows_scored"]:
            raise InputError(job, "was evaluated on training rows of its models", "evaluate it on other data")
    members = [member for report in reports for member in report["members"]]
    if len({(member["family"], member["seed"], member["student"]) for member in members}) < len(members):
        raise InputError("--jobs", "contain duplicate models", "give each directory once, with different seeds")
    return reports


def check_members(job: Path, report: dict[str, Any]) -> None:
    """Raise InputError if the report does not match the models and predictions of the run."""
    fix = "run the pipeline again"
    read_ensemble(job)
    if report["made_from"]["ensemble"] != manifest_hash(job / "ensemble"):
        raise InputError(job / "report.json", "belongs to another ensemble", fix)
    for name in report["ensemble"]["members"]:
        if check_manifest(job / "predictions" / name)["network"] != manifest_hash(job / "members" / name):
            raise InputError(job / "members" / name, "is not the model that was evaluated", fix)


def publications_of_jobs(jobs: tuple[Path, ...], out: Path) -> list[Publication]:
    """Return the publications of the first seed of the first run; raise InputError if a report is damaged."""
    try:
        reports = read_reports(jobs)
        first = [member for member in reports[0]["members"] if not member["student"]]
        families = [member["family"] for member in first if member["seed"] == reports[0]["seed"]]
        command = command_of(reports[0], read_settings(jobs[0]))
        results = {family: family_result(reports, command, family) for family in families}
    except (KeyError, TypeError) as error:
        problem = f"damaged report.json ({short_message(error)})"
        raise InputError("--jobs", problem, "run the pipeline again") from error
    members, seed = jobs[0] / "members", reports[0]["seed"]
    return [publication_of_run(members / f"{family}-{seed}", out / family, results[family]) for family in families]


def is_published(publication: Publication) -> bool:
    """Return whether an interrupted call published this model already; raise InputError if the target is in use."""
    target = publication.target
    if not os.path.lexists(target):
        return False
    with suppress(InputError):  # the target is damaged, or no model
        if check_manifest(target) == publication.made_from and read_json(target / "result.json") == publication.result:
            return True
    raise InputError(target, "already exists", "move it away, or give another --out")


def publish(publication: Publication) -> None:
    """Write the directory of the model, which is complete or absent."""
    target = publication.target
    with committed_folder(target, publication.made_from) as draft:
        publication.write_files(draft)
        write_json(draft / "result.json", publication.result)
    say(f"{target}: {sum(path.stat().st_size for path in target.iterdir()) / 2**20:.1f} MiB")


def main(options: PublishOptions) -> None:
    if not options.jobs and not options.scratch:
        raise InputError("--jobs", "missing", "give directories of finished pipelines, or --scratch")
    publications = [publication_of_scratch(options.scratch, options.out / "scratch")] if options.scratch else []
    publications += publications_of_jobs(options.jobs, options.out) if options.jobs else []
    unpublished = [publication for publication in publications if not is_published(publication)]
    for publication in unpublished:
        publish(publication)


if __name__ == "__main__":
    run(main, PublishOptions)
