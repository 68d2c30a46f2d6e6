"""Puts trained networks where the repository keeps those that it ships: weights, recipe, history, training rows, and
how good they are over the seeds of several jobs. The network in NumPy alone is published in its own way."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.console import say
from experiments.ensemble import read_ensemble
from experiments.evaluate import read_report
from experiments.looks import check_origin
from experiments.options import run
from jaxnets.errors import InputError, brief
from jaxnets.files import read_json, write_json
from jaxnets.rows import FILE
from jaxnets.seal import check, identity, sealed_folder
from scratch.weights import load_params, save_params


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    jobs: tuple[Path, ...] = ()
    """Folders of finished pipelines; the networks of the first one's first seed are published, no students."""
    scratch: Path | None = None
    """Folder of a finished experiments.train_scratch; its seed 0 is published as `scratch`."""
    out: Path = Path("checkpoints/pretrained")
    """Where to, a folder a family; there must be none of that name."""


def publish(source: Path, target: Path, result: dict[str, Any]) -> None:
    """The run in `source` -> `target`, complete or absent, with its averaged weights in a plain file."""
    from jaxnets.models.weights import write_weights
    from jaxnets.runs import open_run

    trained = open_run(source)
    with sealed_folder(target, {"network": identity(source)}) as draft:
        write_weights(draft / "weights.npz", {"params": trained.params, "stats": trained.stats})
        for name in ("config.json", "metrics.csv", FILE):
            shutil.copyfile(source / name, draft / name)
        write_json(draft / "result.json", result)


def publish_scratch(source: Path, target: Path) -> None:
    """Seed 0 of the folder that experiments.train_scratch left -> `target`, complete or absent."""
    claim_absent(target)
    if not (source / "report.json").is_file():
        raise InputError(source, "holds no report.json", "name the folder of a finished experiments.train_scratch")
    seed = source / "seed-0"
    if not seed.is_dir():
        raise InputError(source, "holds no seed-0", "name the folder of a finished experiments.train_scratch")
    report, job = read_json(source / "report.json"), read_json(source / "job.json")
    check_origin(seed, job | {"seed": 0})
    try:
        settings = report.pop("settings")
        command = f"python -m experiments.train_scratch --recipe {report['recipe']} --seeds {report['seeds']}"
    except KeyError as error:
        problem = f"is damaged (it has no {brief(error)})"
        raise InputError(source / "report.json", problem, "run experiments.train_scratch again") from error
    with sealed_folder(target, job) as draft:
        save_params(draft / "weights.npz", load_params(seed / "weights.npz"))
        shutil.copyfile(seed / "metrics.csv", draft / "metrics.csv")
        write_json(draft / "settings.json", settings)
        write_json(draft / "result.json", {"command": command} | report)


def results(reports: list[dict[str, Any]], family: str) -> dict[str, Any]:
    """How good the networks of one family are in all jobs: test accuracies of the plain picture at the last epoch."""
    members = [member for report in reports for member in report["members"] if not member["student"]]
    ours = [member for member in members if member["family"] == family]
    accuracies = [member["test_accuracy"] for member in ours]
    first = reports[0]
    seeds = len({member["seed"] for member in first["members"]})
    return {
        "command": f"python -m experiments.pipeline --preset {first['preset']} --data {first['data']}"
        f" --seed {first['seed']}" + (f" --seeds {seeds}" if seeds > 1 else ""),
        "device": first["device"],
        "jax_version": first["jax_version"],
        "train_seconds": ours[0]["train_seconds"],
        "test_accuracy": accuracies[0],
        "test_accuracies_by_seed": {str(member["seed"]): member["test_accuracy"] for member in ours},
        "mean": float(np.mean(accuracies)) if None not in accuracies else None,
        "sd": float(np.std(accuracies, ddof=1)) if None not in accuracies and len(ours) > 1 else None,
    }


def read_reports(jobs: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The jobs' reports, all of the same recipes, data and precision but for the seeds; InputError otherwise."""
    reports, settings = [], []
    for job in jobs:
        if not (job / "report.json").is_file():
            raise InputError(job, "holds no report.json", "name the folder of a finished pipeline")
        reports.append(read_report(job / "report.json"))
        settings.append(read_json(job / "job.json") | {"seed": None})
        if settings[-1] != settings[0]:
            raise InputError(job, f"was made with other settings than {jobs[0]}", "publish it by itself")
        check_members(job, reports[-1])
        if reports[-1]["trained_rows_scored"]:
            raise InputError(job, "was scored on rows that its networks were trained on", "score it on other data")
    members = [member for report in reports for member in report["members"]]
    if len({(member["family"], member["seed"], member["student"]) for member in members}) < len(members):
        raise InputError("--jobs", "hold the same network twice", "name each job once, with a seed of its own")
    return reports


def check_members(job: Path, report: dict[str, Any]) -> None:
    """InputError where the report is not of the networks that are there."""
    fix = "run the pipeline again"
    read_ensemble(job)
    if report["made_from"]["ensemble"] != identity(job / "ensemble"):
        raise InputError(job / "report.json", "is of another ensemble", fix)
    for name in report["ensemble"]["members"]:
        if check(job / "predictions" / name)["network"] != identity(job / "members" / name):
            raise InputError(job / "members" / name, "is not the network that was scored", fix)


def claim_absent(folder: Path) -> None:
    if folder.exists():
        raise InputError(folder, "is there already", "move it away, or give another --out")


def say_size(folder: Path) -> None:
    say(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.1f} MiB")


def publish_jobs(jobs: tuple[Path, ...], out: Path) -> None:
    try:
        reports = read_reports(jobs)
        first = [member for member in reports[0]["members"] if not member["student"]]
        families = [member["family"] for member in first if member["seed"] == reports[0]["seed"]]
        shown = {family: results(reports, family) for family in families}
    except (KeyError, TypeError) as error:
        raise InputError("--jobs", f"have a damaged report.json ({brief(error)})", "run the pipeline again") from error
    for family in families:
        claim_absent(out / family)
    for family in families:
        publish(jobs[0] / "members" / f"{family}-{reports[0]['seed']}", out / family, shown[family])
        say_size(out / family)


def main(options: PublishOptions) -> None:
    if not options.jobs and not options.scratch:
        raise InputError("--jobs", "names no folder", "name those of finished pipelines, or one with --scratch")
    if options.scratch:
        publish_scratch(options.scratch, options.out / "scratch")
        say_size(options.out / "scratch")
    if options.jobs:
        publish_jobs(options.jobs, options.out)


if __name__ == "__main__":
    run(main, PublishOptions)
