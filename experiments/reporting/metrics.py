"""How good networks are, from their predictions: the rows of a report, and its table. Arrays in, numbers out."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.console import percent, show_table
from jaxnets.errors import InputError
from jaxnets.store.train_rows import FILE, was_trained_on


class Predictions(NamedTuple):
    """What M trained runs say through V views; without labels of its own a part of the report stays empty.

    `inductive` (M,) tells which networks saw no test image; `trained_rows` is how many of the test images any of them
    was trained on: none, unless a person allowed it; None if that is not known."""

    folders: list[Path]
    inductive: list[bool]
    valid: np.ndarray  # (M, V, N, K) log-probabilities; N may be 0
    valid_labels: np.ndarray  # (N,)
    test: np.ndarray  # (M, V, T, K)
    test_labels: np.ndarray | None  # (T,)
    trained_rows: int | None


def check_rows(folders: list[Path], images: np.ndarray, *, allowed: bool) -> int | None:
    """-> how many of the images (T, H, W, C) any of the runs was trained on, None if one does not say; InputError if
    there are some, or may be, and that is not `allowed`."""
    seen = np.zeros(len(images), bool)
    for folder in folders:
        if allowed and not (folder / FILE).is_file():
            return None
        ours = was_trained_on(folder, images)
        if ours.any() and not allowed:
            problem = f"was trained on {ours.sum():,} of the {len(images):,} test images: a score on them means nothing"
            fix = "score it on other data, or give --allow-trained-rows, which marks the report"
            raise InputError(folder, problem, fix)
        seen |= ours
    return int(seen.sum())


def describe_members(answers: Predictions) -> list[dict[str, Any]]:
    """A row a network: its accuracies of the plain picture, and with all views (tta_...)."""
    return [
        describe_member(folder, valid, answers.valid_labels, test, answers.test_labels)
        for folder, valid, test in zip(answers.folders, answers.valid, answers.test, strict=True)
    ]


def describe_member(
    folder: Path, valid: np.ndarray, valid_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray | None
) -> dict[str, Any]:
    from jaxnets.inference.ensemble import combine
    from jaxnets.models.functional import count
    from jaxnets.runs import open_run
    from jaxnets.training.fit import read_history

    run, history = open_run(folder), read_history(folder)
    return {
        "family": run.config.recipe.family,
        "seed": run.config.seed,
        "student": run.config.pseudo_labels is not None,
        "parameters": count(run.params),
        "epochs": len(history),
        "valid_accuracy": accuracy_or_none(valid[0], valid_labels),
        "tta_valid_accuracy": accuracy_or_none(combine(valid), valid_labels),
        "test_accuracy": accuracy_or_none(test[0], test_labels),
        "tta_test_accuracy": accuracy_or_none(combine(test), test_labels),
        "train_seconds": sum(row["seconds"] for row in history),
        "compile_seconds": sum(row["compile_seconds"] for row in history),
        "images_per_second": float(np.median([row["images_per_second"] for row in history])),
    }


def accuracy_or_none(log_probs: np.ndarray, labels: np.ndarray | None) -> float | None:
    """log_probs (N, K), labels (N,) -> the accuracy, None where there is nothing to compare."""
    from jaxnets.inference.ensemble import accuracy

    return None if labels is None or not len(labels) else accuracy(log_probs, labels)


def summarise(views: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """views (M, V, N, K) of validation rows, weights (M,), labels (N,) -> what they say of the ensemble."""
    from jaxnets.inference.calibrate import apply_temperature, calibration_error, fit_temperature
    from jaxnets.inference.ensemble import combine, nll

    keys = ["valid_accuracy", "tta_valid_accuracy", "temperature", "valid_nll", "valid_nll_calibrated"]
    keys += ["valid_calibration_error", "valid_calibration_error_calibrated"]
    if not len(labels):
        return dict.fromkeys(keys)
    log_probs = combine(mean_over_views(views), weights)
    temperature = fit_temperature(log_probs, labels)
    calibrated = apply_temperature(log_probs, temperature)
    accuracies = accuracy_or_none(combine(views[:, 0], weights), labels), accuracy_or_none(log_probs, labels)
    errors = calibration_error(log_probs, labels), calibration_error(calibrated, labels)
    values = (*accuracies, temperature, nll(log_probs, labels), nll(calibrated, labels), *errors)
    return dict(zip(keys, values, strict=True))


def mean_over_views(views: np.ndarray) -> np.ndarray:
    """(M, V, N, K) -> (M, N, K): each network's mean over its views."""
    from jaxnets.inference.ensemble import combine

    return np.stack([combine(member) for member in views])


def ensemble_tests(answers: Predictions, weights: np.ndarray) -> dict[str, float | None]:
    """Test accuracies of the ensemble: as submitted, of the plain pictures, with weights fitted on the validation rows,
    and of the networks that saw no test image."""
    from jaxnets.inference.ensemble import combine, fit_weights

    members, labels, inductive = mean_over_views(answers.test), answers.test_labels, np.array(answers.inductive)
    can_fit = labels is not None and len(answers.valid_labels) > 0
    fitted = fit_weights(mean_over_views(answers.valid), answers.valid_labels) if can_fit else None
    return {
        "test_accuracy": accuracy_or_none(combine(members, weights), labels),
        "plain_test_accuracy": accuracy_or_none(combine(answers.test[:, 0], weights), labels),
        "fitted_test_accuracy": None if fitted is None else accuracy_or_none(combine(members, fitted), labels),
        "inductive_test_accuracy": accuracy_or_none(combine(members[inductive]), labels) if inductive.any() else None,
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
    through = f", {report['views']} views" if report["views"] > 1 else ""
    columns = ["network", "parameters", "valid", f"valid{through}", f"test{through}", "training"]
    if not through:  # both columns of the validation rows are the same
        for row in (columns, *rows):
            del row[2]
    show_table(f"{report['preset']} on {report['data']}, {report['device']}", columns, rows)
