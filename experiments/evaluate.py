"""Says how good trained networks and their ensemble are, those of a job or any others: a table, report.json, and a page
and pictures of what they have wrong. Test labels are read here alone."""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.cli.console import percent, result, say
from experiments.cli.options import ScoreOptions, run, start_jax
from experiments.cli.output_dir import Job, check_views, open_job
from experiments.cli.paths import writable_file
from experiments.cli.provenance import clocked, command, versions
from experiments.ensemble import read_ensemble
from experiments.predict import read_log_probs
from experiments.reporting.error_analysis import draw_failures, short_names
from experiments.reporting.metrics import Predictions, check_rows, describe_members, ensemble_tests, show, summarise
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import checksum_of, identity
from jaxnets.store.train_rows import FILE, was_trained_on


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ScoreOptions):
    out: Path | None = None
    """Folder of the report; the job's, or checkpoints/pretrained-evaluated or runs-evaluated unless given."""
    pretrained: Literal["all", "resnet", "deep_cnn", "wide_cnn", "inception", "senet"] | None = None
    """Networks that come with the repository, instead of a job's."""
    runs: tuple[Path, ...] = ()
    """Folders of trained networks, instead of a job's."""


def evaluate(
    job: Job, test_labels: np.ndarray | None, start: Callable[[], dict[str, Any]], *, allowed: bool = False
) -> dict[str, Any]:
    """-> the report of a job's ensemble, with what `start` says in the end of how it came about. It is left as
    report.json, and before it report.html and pictures of mistakes. Test accuracies are None where the data has no test
    labels."""
    from jaxnets.runs import read_config

    summary = read_ensemble(job.out)
    folders = [job.out / "members" / name for name in summary["members"]]
    trained_rows = 0 if test_labels is None else check_rows(folders, job.digits.x_test, allowed=allowed)
    inductive = [read_config(folder).pseudo_labels is None for folder in folders]
    valid, test = read_log_probs(job, folders).values()
    answers = Predictions(folders, inductive, valid, job.valid_labels(), test, test_labels, trained_rows)
    pseudo_path = job.out / "pseudo_labels" / "summary.json"
    facts = {
        "data": job.digits.name,
        "preset": job.preset.name,
        "precision": job.precision,
        "seed": job.seed,
        "train_rows": len(job.train_rows),
        "pseudo_labels": read_json(pseudo_path) if pseudo_path.is_file() else None,
        "made_from": origin(job.out / "ensemble", test_labels, allowed=allowed),
    }
    with clocked(job.out, "evaluate"):
        report = make_report(answers, facts, summary, job.digits.x_test, job.devices, job.out)
    report |= start()
    write_reports(job.out, report, answers, job.digits, job.valid_rows, job.preset.selection)
    return report


def origin(ensemble: Path, test_labels: np.ndarray | None, *, allowed: bool) -> dict[str, Any]:
    """What a report follows from."""
    labels = None if test_labels is None else hashlib.sha256(test_labels.tobytes()).hexdigest()
    return {"ensemble": identity(ensemble), "test_labels": labels, "allow_trained_rows": allowed}


def make_report(
    answers: Predictions, facts: dict[str, Any], summary: dict[str, Any], images: np.ndarray, devices: Any, out: Path
) -> dict[str, Any]:
    """-> the report: `facts` of its own, what `summary` says of the ensemble, and what the test labels say of both."""
    import jax

    weights = np.array(summary["weights"])
    report = facts | {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "jax_version": jax.__version__,
        "versions": versions(),
        "valid_rows": len(answers.valid_labels),
        "test_rows": len(images),
        "trained_rows_scored": answers.trained_rows,
        "views": answers.test.shape[1],
        "members": describe_members(answers),
        "ensemble": summary | ensemble_tests(answers, weights),
    }
    if answers.test_labels is not None:
        draw_failures(out, answers, weights, summary["temperature"], images, data=facts["data"])
    return report


def write_reports(out: Path, report: dict[str, Any], *material: Any) -> None:
    """The page first: where report.json is current, so is the page. There is none without a label to judge by."""
    from experiments.reporting.report import write_report

    if report["valid_rows"] or report["ensemble"]["test_accuracy"] is not None:
        write_report(out, report, *material)
    write_json(out / "report.json", report | {"sha256": checksum_of(report)})


def read_report(path: Path) -> dict[str, Any]:
    """InputError where it is missing or was changed after it was written."""
    report = read_json(path)
    if report.pop("sha256", None) != checksum_of(report):
        raise InputError(path, "was changed after it was written", "delete it, and have it made anew")
    return report


def evaluate_models(options: EvaluateOptions, out: Path, begin: float) -> dict[str, Any]:
    """-> the report of pretrained networks or of any runs' folders, on the test rows of the data, which is left in
    `out` as JSON and as a page."""
    from jaxnets.devices import choose_devices
    from jaxnets.inference.tta import tta

    digits = data.load(options.data, options.data_path)
    if digits.y_test is None:
        raise InputError(f"data {options.data}", "has no test labels", "score the networks on mnist, for instance")
    folders = named_models(options)
    runs = open_runs(folders, digits)
    trained_rows = check_rows(folders, digits.x_test, allowed=options.allow_trained_rows)
    writable_file(out / "report.json")
    start_jax(options)
    devices = choose_devices(options.devices)
    valid_rows = held_out(folders, digits.x_train)
    pictures = np.concatenate([digits.x_test, digits.x_train[valid_rows]])
    members = []
    for trained_run, folder in zip(runs, folders, strict=True):
        members.append(tta(trained_run, {"all": pictures}, views=options.views or 15, devices=devices)["all"])
        say(f"{folder.name}: predicted")
    test, valid = np.split(np.stack(members), [len(digits.x_test)], axis=2)
    inductive = [trained_run.config.pseudo_labels is None for trained_run in runs]
    answers = Predictions(folders, inductive, valid, digits.y_train[valid_rows], test, digits.y_test, trained_rows)
    weights = np.full(len(runs), 1 / len(runs))
    names = {"members": short_names(folders), "fitted_weights": False, "weights": weights.tolist()}
    facts = {
        "data": digits.name,
        "preset": "pretrained" if options.pretrained else "runs",
        "precision": " and ".join(sorted({trained_run.config.precision for trained_run in runs})),
        "seed": None,
        "train_rows": len(digits.x_train) - len(valid_rows),
        "pseudo_labels": None,
        "made_from": None,
    }
    summary = names | summarise(valid, weights, answers.valid_labels)
    report = make_report(answers, facts, summary, digits.x_test, devices, out) | run_info(begin, resumed=False)
    write_reports(out, report, answers, digits, valid_rows)
    return report


def run_info(begin: float, *, resumed: bool) -> dict[str, Any]:
    return {"command": command(), "total_seconds": time.perf_counter() - begin, "resumed": resumed}


def named_models(options: EvaluateOptions) -> list[Path]:
    """The folders that the command line names; InputError if there are none."""
    from jaxnets.store.weights import PRETRAINED

    known = [path.parent.name for path in sorted(PRETRAINED.glob("*/config.json"))]
    families = known if options.pretrained == "all" else [options.pretrained] if options.pretrained else []
    folders = [*(PRETRAINED / family for family in families), *options.runs]
    if not folders or not set(families) <= set(known):
        problem = f"holds {', '.join(known) or 'no networks'}, not {options.pretrained}"
        fix = "name trained networks with --runs, or put some there with experiments.tools.publish"
        raise InputError(PRETRAINED, problem, fix)
    return folders


def open_runs(folders: list[Path], digits: data.Digits) -> list[Any]:
    """The trained networks; InputError, before anything is computed, where one does not suit the data."""
    from jaxnets.runs import open_run
    from jaxnets.training.fit import read_history

    runs = []
    here = (*digits.x_test.shape[1:], digits.num_classes)
    for folder in folders:
        runs.append(open_run(folder))
        wanted = (*runs[-1].config.image_shape, runs[-1].config.num_classes)
        if wanted != here:
            problem = f"is for images and classes of {wanted}, the data {digits.name} has {here}"
            raise InputError(folder, problem, "leave it out, or name the data that it was trained on")
        read_history(folder)
    return runs


def held_out(folders: list[Path], images: np.ndarray) -> np.ndarray:
    """-> rows of the training images (N, H, W, C) that none of the runs was trained on: the validation rows of all.
    None where the runs come from other data."""
    if not all((folder / FILE).is_file() for folder in folders):
        return np.zeros(0, int)
    seen = np.any([was_trained_on(folder, images) for folder in folders], axis=0)
    return np.flatnonzero(~seen) if seen.any() else np.zeros(0, int)


def main(options: EvaluateOptions) -> None:
    begin = time.perf_counter()
    if not options.pretrained and not options.runs:
        test_labels = data.load(options.data, options.data_path).y_test
        with open_job(options) as job:
            path = job.out / "report.json"
            before: dict[str, Any] = {}
            with suppress(InputError):  # of a report that is missing or damaged
                before = read_report(path)

            def start() -> dict[str, Any]:  # the pipeline's, if it was that which made the job
                return {name: before.get(name, ours) for name, ours in run_info(begin, resumed=True).items()}

            report = evaluate(job, test_labels, start, allowed=options.allow_trained_rows)
        print_summary(report, job.out / "report.json", job.out / "report.html")
        return
    if options.require_identical:
        raise InputError("--require-identical", "is for jobs: only they keep their environment", "leave it out")
    check_views(options.views)
    out = options.out or Path("checkpoints") / ("pretrained-evaluated" if options.pretrained else "runs-evaluated")
    print_summary(evaluate_models(options, out, begin), out / "report.json", out / "report.html")


def print_summary(report: dict[str, Any], *paths: Path) -> None:
    """The end of what is said in the terminal: the table, and a line with the result and where more is to be found."""
    show(report)
    accuracy = report["ensemble"]["test_accuracy"]
    tests = "unknown: no labels" if accuracy is None else percent(accuracy)
    left = ", ".join(str(path) for path in paths if path.is_file())
    result(f"test accuracy {tests}; {report['total_seconds']:.0f} s; {left}")


if __name__ == "__main__":
    run(main, EvaluateOptions)
