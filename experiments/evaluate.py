"""Says how good the trained networks and their ensemble are: a table, and report.json. Test labels are read here
alone."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.console import percent, show_table
from experiments.options import Job, Options, open_job, run
from experiments.predict import read_log_probs, trained
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.files import read_json


def evaluate(job: Job, folders: list[Path], test_labels: np.ndarray | None) -> dict[str, Any]:
    """-> the report. Test accuracies are None where the data has no test labels."""
    import jax

    summary_path = job.out / "ensemble" / "summary.json"
    if not summary_path.is_file():
        raise InputError(summary_path, "is missing", "run experiments.ensemble or the pipeline first")
    summary = read_json(summary_path)
    pseudo_path = job.out / "pseudo_labels" / "summary.json"
    return {
        "data": job.digits.name,
        "preset": job.preset.name,
        "device": f"{len(job.devices)} x {job.devices[0].device_kind}",
        "jax_version": jax.__version__,
        "precision": job.precision,
        "seed": job.seed,
        "train_rows": len(job.train_rows),
        "valid_rows": len(job.valid_rows),
        "test_rows": len(job.digits.x_test),
        "views": job.preset.views,
        "members": [describe_member(job, folder, test_labels) for folder in folders],
        "ensemble": summary | ensemble_tests(job, folders, np.array(summary["weights"]), test_labels),
        "pseudo_labels": read_json(pseudo_path) if pseudo_path.is_file() else None,
    }


def describe_member(job: Job, folder: Path, test_labels: np.ndarray | None) -> dict[str, Any]:
    """One network: test_accuracy of the plain picture, tta_ with all views."""
    from jaxnets.inference.ensemble import accuracy, combine
    from jaxnets.models.functional import count
    from jaxnets.runs import open_run
    from jaxnets.training.fit import read_history

    run, history = open_run(folder), read_history(folder)
    (valid,), (test,) = (read_log_probs([folder], name) for name in ("valid", "test"))
    labels = job.valid_labels()
    score = lambda log_probs: None if test_labels is None else accuracy(log_probs, test_labels)
    return {
        "family": run.config.recipe.family,
        "seed": run.config.seed,
        "student": run.config.pseudo_labels is not None,
        "parameters": count(run.params),
        "epochs": len(history),
        "valid_accuracy": accuracy(valid[0], labels),
        "tta_valid_accuracy": accuracy(combine(valid), labels),
        "test_accuracy": score(test[0]),
        "tta_test_accuracy": score(combine(test)),
        "train_seconds": sum(row["seconds"] for row in history),
        "compile_seconds": sum(row["compile_seconds"] for row in history),
        "images_per_second": float(np.median([row["images_per_second"] for row in history])),
    }


def ensemble_tests(
    job: Job, folders: list[Path], weights: np.ndarray, test_labels: np.ndarray | None
) -> dict[str, float | None]:
    """Test accuracies of the ensemble: as submitted, of the plain pictures, and of the networks that saw no test
    image."""
    from jaxnets.inference.ensemble import accuracy, combine

    if test_labels is None:
        return dict.fromkeys(("test_accuracy", "plain_test_accuracy", "inductive_test_accuracy"))
    views = read_log_probs(folders, "test")
    members = np.stack([combine(member) for member in views])
    teachers = [folder in job.teachers() for folder in folders]
    return {
        "test_accuracy": accuracy(combine(members, weights), test_labels),
        "plain_test_accuracy": accuracy(combine(views[:, 0], weights), test_labels),
        "inductive_test_accuracy": accuracy(combine(members[teachers]), test_labels) if any(teachers) else None,
    }


def show(report: dict[str, Any]) -> None:
    """Prints the report as a table of at most 80 columns."""
    rows = []
    for member in report["members"]:
        name = f"{member['family']}-{member['seed']}" + (" student" if member["student"] else "")
        valid, tta, test = (percent(member[f"{key}_accuracy"]) for key in ("valid", "tta_valid", "tta_test"))
        rows.append([name, f"{member['parameters']:,}", valid, tta, test, f"{member['train_seconds']:.0f} s"])
    whole = report["ensemble"]
    parameters = f"{sum(member['parameters'] for member in report['members']):,}"
    seconds = f"{sum(member['train_seconds'] for member in report['members']):.0f} s"
    valid, tta, test = (percent(whole[key]) for key in ("valid_accuracy", "tta_valid_accuracy", "test_accuracy"))
    rows.append(["ensemble", parameters, valid, tta, test, seconds])
    views = report["views"]
    columns = ["network", "parameters", "valid", f"valid, {views} views", f"test, {views} views", "training"]
    show_table(f"{report['preset']} on {report['data']}, {report['device']}", columns, rows)


def read_test_labels(options: Options) -> np.ndarray | None:
    return data.load(options.data, options.data_path).y_test


def main(options: Options) -> None:
    job = open_job(options)
    show(evaluate(job, trained(job), read_test_labels(options)))


if __name__ == "__main__":
    run(main, Options)
