"""Puts trained networks where the repository keeps those that it ships: weights, recipe, history, training rows, and
how good they are over the seeds of several jobs. The network in NumPy alone is published in its own way."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.console import say
from experiments.cli.options import run
from experiments.cli.output_dir import read_settings
from experiments.ensemble import read_ensemble
from experiments.evaluate import read_report
from experiments.scratch_checkpoint import check_origin, read_history
from jaxnets.errors import InputError, brief
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import check, identity, sealed_folder
from jaxnets.store.train_rows import FILE
from scratch.weights import load_params, save_params


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    jobs: tuple[Path, ...] = ()
    """Folders of finished pipelines; the networks of the first one's first seed are published, no students."""
    scratch: Path | None = None
    """Folder of a finished experiments.train_scratch; its seed 0 is published as `scratch`."""
    out: Path = Path("checkpoints/pretrained")
    """Where to, a folder a family; there must be no other of that name."""


class Publication(NamedTuple):
    """A network that is ready to be published: in which folder, what it was made from, how good it is, and what writes
    its files there."""

    target: Path
    made_from: dict[str, Any]
    result: dict[str, Any]
    fill: Callable[[Path], None]


def of_run(source: Path, target: Path, result: dict[str, Any]) -> Publication:
    """The run in `source`, with its averaged weights in a plain file; InputError where it is damaged."""
    from jaxnets.runs import open_run
    from jaxnets.store.weights import write_weights

    trained = open_run(source)

    def fill(draft: Path) -> None:
        write_weights(draft / "weights.npz", {"params": trained.params, "stats": trained.stats})
        for name in ("config.json", "metrics.csv", FILE):
            shutil.copyfile(source / name, draft / name)

    return Publication(target, {"network": identity(source)}, result, fill)


def of_scratch(source: Path, target: Path) -> Publication:
    """Seed 0 of the folder that experiments.train_scratch left, with the settings that its seal tells of."""
    seed, path = source / "seed-0", source / "report.json"
    for needed in (path, seed):
        if not needed.exists():
            fix = "name the folder of a finished experiments.train_scratch"
            raise InputError(source, f"holds no {needed.name}", fix)
    report, job = read_report(path), read_settings(source)
    check_origin(seed, job | {"seed": 0})
    if job.get("scored") != "test":
        raise InputError(source, "was scored on validation rows", "publish a training without --validate")
    if report.get("test_accuracies", [])[:1] != [read_history(seed / "metrics.csv")[-1]["test_accuracy"]]:
        raise InputError(path, "is of other networks", "run experiments.train_scratch again")
    params = load_params(seed / "weights.npz")

    def fill(draft: Path) -> None:
        save_params(draft / "weights.npz", params)
        shutil.copyfile(seed / "metrics.csv", draft / "metrics.csv")
        write_json(draft / "settings.json", job["recipe"])

    return Publication(target, job, {name: report[name] for name in report if name != "settings"}, fill)


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
        settings.append(read_settings(job) | {"seed": None})
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


def of_jobs(jobs: tuple[Path, ...], out: Path) -> list[Publication]:
    try:
        reports = read_reports(jobs)
        first = [member for member in reports[0]["members"] if not member["student"]]
        families = [member["family"] for member in first if member["seed"] == reports[0]["seed"]]
        shown = {family: results(reports, family) for family in families}
    except (KeyError, TypeError) as error:
        raise InputError("--jobs", f"have a damaged report.json ({brief(error)})", "run the pipeline again") from error
    members, seed = jobs[0] / "members", reports[0]["seed"]
    return [of_run(members / f"{family}-{seed}", out / family, shown[family]) for family in families]


def is_published(publication: Publication) -> bool:
    """Whether that very network is there with that very result, as where an earlier start was interrupted; InputError
    where anything else is."""
    target, made_from, result, _ = publication
    if not os.path.lexists(target):
        return False
    with suppress(InputError):  # of what is damaged, or no network
        if check(target) == made_from and read_json(target / "result.json") == result:
            return True
    raise InputError(target, "is there already", "move it away, or give another --out")


def publish(publication: Publication) -> None:
    """Leaves its folder, complete or absent."""
    target, made_from, result, fill = publication
    with sealed_folder(target, made_from) as draft:
        fill(draft)
        write_json(draft / "result.json", result)
    say(f"{target}: {sum(path.stat().st_size for path in target.iterdir()) / 2**20:.1f} MiB")


def main(options: PublishOptions) -> None:
    if not options.jobs and not options.scratch:
        raise InputError("--jobs", "names no folder", "name those of finished pipelines, or one with --scratch")
    ready = [of_scratch(options.scratch, options.out / "scratch")] if options.scratch else []
    ready += of_jobs(options.jobs, options.out) if options.jobs else []
    missing = [publication for publication in ready if not is_published(publication)]
    for publication in missing:
        publish(publication)


if __name__ == "__main__":
    run(main, PublishOptions)
