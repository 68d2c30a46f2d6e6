"""How accurate models and their ensemble are, computed from their predictions: the content of report.json.

report.json is the JSON object of a `Report`: its fields are the keys, `members` is a list of `MemberMetrics` and
`ensemble` an `EnsembleMetrics`. A further key `sha256` is the checksum of the rest. Accuracies are fractions; they are
null if there are no labels. ensemble/summary.json is the JSON object of an `EnsembleSummary`.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.train_rows import FILE_NAME, was_trained_on

from ..cli.console import percent, show_table


@dataclass(frozen=True, kw_only=True)
class MemberMetrics:
    """The metrics of one model at its last epoch; those named `tta_` are of the mean over all views."""

    family: str
    seed: int
    student: bool
    parameters: int
    epochs: int
    valid_accuracy: float | None
    tta_valid_accuracy: float | None
    test_accuracy: float | None
    tta_test_accuracy: float | None
    train_seconds: float
    compile_seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class EnsembleSummary:
    """An ensemble and its metrics on the validation rows, which are None if there are no such rows.

    `members` are their names. `fitted_weights` tells whether their weights were fitted on the validation rows. The
    metrics named `calibrated` are those after division by the temperature, which is fitted on the same rows.
    """

    members: list[str]
    fitted_weights: bool
    weights: list[float]
    valid_accuracy: float | None = None
    tta_valid_accuracy: float | None = None
    temperature: float | None = None
    valid_nll: float | None = None
    valid_nll_calibrated: float | None = None
    valid_calibration_error: float | None = None
    valid_calibration_error_calibrated: float | None = None
    confidence_threshold: float | None = None
    """Of the validation images that are classified with this calibrated confidence or more, 99.9 % are correct."""


@dataclass(frozen=True, kw_only=True)
class EnsembleMetrics(EnsembleSummary):
    """An ensemble and all its metrics. Test accuracies are None if the test images have no labels.

    `test_accuracy` is that of the submission, `plain_test_accuracy` that without test-time augmentation,
    `fitted_test_accuracy` that with weights fitted on the validation rows, if there are any, and
    `inductive_test_accuracy` that of the members that saw no test image, if there are any.
    """

    test_accuracy: float | None = None
    plain_test_accuracy: float | None = None
    fitted_test_accuracy: float | None = None
    inductive_test_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of report.json.

    `pseudo_labels` is the content of pseudo_labels/summary.json, if there is any; `made_from` identifies the ensemble
    and the test labels of a pipeline; `trained_rows_scored` is the number of test images that a member was trained on,
    None if that is not known; `total_seconds` is the time of the start that made the report, and `resumed` whether it
    found parts of the results.
    """

    data: str
    preset: str
    precision: str
    seed: int | None = None
    train_rows: int
    pseudo_labels: dict[str, Any] | None = None
    made_from: dict[str, Any] | None = None
    device: str
    jax_version: str
    versions: dict[str, str]
    valid_rows: int
    test_rows: int
    trained_rows_scored: int | None
    views: int
    members: list[MemberMetrics]
    ensemble: EnsembleMetrics
    command: str
    total_seconds: float
    resumed: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Report":
        """The inverse of `to_json`. Raises TypeError or KeyError if keys are missing or unknown."""
        members = [MemberMetrics(**member) for member in value["members"]]
        return Report(**value | {"members": members, "ensemble": EnsembleMetrics(**value["ensemble"])})


@dataclass(frozen=True)
class Predictions:
    """Predictions of M models through V views for N validation and T test images of K classes, with the labels.

    `inductive` (M,) tells which models saw no test image; `trained_rows` is the number of test images that any of them
    was trained on, None if that is not known.
    """

    folders: list[Path]
    inductive: list[bool]
    valid: np.ndarray  # (M, V, N, K) log-probabilities; N may be 0
    valid_labels: np.ndarray  # (N,)
    test: np.ndarray  # (M, V, T, K) log-probabilities
    test_labels: np.ndarray | None  # (T,)
    trained_rows: int | None

    @cached_property
    def valid_mean(self) -> np.ndarray:
        """The log of the mean probabilities over the views, (M, N, K)."""
        return mean_over_views(self.valid)

    @cached_property
    def test_mean(self) -> np.ndarray:
        """The log of the mean probabilities over the views, (M, T, K)."""
        return mean_over_views(self.test)


def mean_over_views(views: np.ndarray) -> np.ndarray:
    """log_probs (M, V, N, K) -> the log of each model's mean probabilities over its views (M, N, K)."""
    from jaxnets.inference.ensemble import combine

    return np.stack([combine(member) for member in views])


def check_rows(folders: list[Path], images: np.ndarray, *, allowed: bool) -> int | None:
    """images (T, H, W, C) -> the number of them that any of the models was trained on, None if one does not record it.
    Raises InputError if there are such images, or may be, and they are not `allowed`.
    """
    seen = np.zeros(len(images), bool)
    for folder in folders:
        if allowed and not (folder / FILE_NAME).is_file():
            return None
        seen_by_model = was_trained_on(folder, images)
        if seen_by_model.any() and not allowed:
            count = f"{seen_by_model.sum():,} of the {len(images):,}"
            problem = f"was trained on {count} test images, so its accuracy on them means nothing"
            fix = "use other test data, or give --allow-trained-rows, which marks the report"
            raise InputError(folder, problem, fix)
        seen |= seen_by_model
    return int(seen.sum())


def accuracy_or_none(log_probs: np.ndarray, labels: np.ndarray | None) -> float | None:
    """log_probs (N, K), labels (N,) -> the accuracy, None if there are no labels."""
    from jaxnets.inference.ensemble import accuracy

    return None if labels is None or not len(labels) else accuracy(log_probs, labels)


def measure_member(predictions: Predictions, number: int) -> MemberMetrics:
    """Return the metrics of the model with that index."""
    from jaxnets.models.functional import count
    from jaxnets.runs import open_run
    from jaxnets.training.history import read_history

    run, history = open_run(predictions.folders[number]), read_history(predictions.folders[number])
    return MemberMetrics(
        family=run.config.recipe.family,
        seed=run.config.seed,
        student=run.config.pseudo_labels is not None,
        parameters=count(run.params),
        epochs=len(history),
        valid_accuracy=accuracy_or_none(predictions.valid[number, 0], predictions.valid_labels),
        tta_valid_accuracy=accuracy_or_none(predictions.valid_mean[number], predictions.valid_labels),
        test_accuracy=accuracy_or_none(predictions.test[number, 0], predictions.test_labels),
        tta_test_accuracy=accuracy_or_none(predictions.test_mean[number], predictions.test_labels),
        train_seconds=sum(row["seconds"] for row in history),
        compile_seconds=sum(row["compile_seconds"] for row in history),
        images_per_second=float(np.median([row["images_per_second"] for row in history])),
    )


def add_validation(
    summary: EnsembleSummary, views: np.ndarray, mean: np.ndarray, labels: np.ndarray
) -> EnsembleSummary:
    """Add the metrics on N validation rows, if there are any, to the summary of an ensemble of M models.

    views (M, V, N, K) log-probabilities through V views, mean (M, N, K) the log of their mean probabilities, labels
    (N,).
    """
    from jaxnets.inference.calibrate import (
        apply_temperature,
        calibration_error,
        confidence_threshold,
        fit_temperature,
    )
    from jaxnets.inference.ensemble import accuracy, combine, nll

    if not len(labels):
        return summary
    weights = np.array(summary.weights)
    log_probs = combine(mean, weights)
    temperature = fit_temperature(log_probs, labels)
    calibrated = apply_temperature(log_probs, temperature)
    return replace(
        summary,
        valid_accuracy=accuracy(combine(views[:, 0], weights), labels),
        tta_valid_accuracy=accuracy(log_probs, labels),
        temperature=temperature,
        valid_nll=nll(log_probs, labels),
        valid_nll_calibrated=nll(calibrated, labels),
        valid_calibration_error=calibration_error(log_probs, labels),
        valid_calibration_error_calibrated=calibration_error(calibrated, labels),
        confidence_threshold=confidence_threshold(calibrated, labels, accuracy=0.999),
    )


def add_test(summary: EnsembleSummary, predictions: Predictions) -> EnsembleMetrics:
    """Add the test accuracies to the summary of an ensemble."""
    from jaxnets.inference.ensemble import combine, fit_weights

    weights, labels = np.array(summary.weights), predictions.test_labels
    mean, inductive = predictions.test_mean, np.array(predictions.inductive)
    fitted = None
    if labels is not None and len(predictions.valid_labels):
        fitted = fit_weights(predictions.valid_mean, predictions.valid_labels)
    return EnsembleMetrics(
        **asdict(summary),
        test_accuracy=accuracy_or_none(combine(mean, weights), labels),
        plain_test_accuracy=accuracy_or_none(combine(predictions.test[:, 0], weights), labels),
        fitted_test_accuracy=None if fitted is None else accuracy_or_none(combine(mean, fitted), labels),
        inductive_test_accuracy=accuracy_or_none(combine(mean[inductive]), labels) if inductive.any() else None,
    )


def show(report: Report) -> None:
    """Print the report as a table of at most 80 columns. Columns without any accuracy are left out."""
    with_views = f", {report.views} views" if report.views > 1 else ""
    accuracies = {  # with one view, two of the names are the same, and so are the values
        "valid": [*(member.valid_accuracy for member in report.members), report.ensemble.valid_accuracy],
        f"valid{with_views}": [*(m.tta_valid_accuracy for m in report.members), report.ensemble.tta_valid_accuracy],
        f"test{with_views}": [*(m.tta_test_accuracy for m in report.members), report.ensemble.test_accuracy],
    }
    shown = {column: values for column, values in accuracies.items() if set(values) != {None}}
    names = [f"{m.family}-{m.seed}" + (" student" if m.student else "") for m in report.members]
    parameters = [member.parameters for member in report.members]
    seconds = [member.train_seconds for member in report.members]
    rows = [
        [name, f"{count:,}", *(percent(values[number]) for values in shown.values()), f"{duration:.0f} s"]
        for number, (name, count, duration) in enumerate(
            zip([*names, "ensemble"], [*parameters, sum(parameters)], [*seconds, sum(seconds)], strict=True)
        )
    ]
    title = f"{report.preset} on {report.data}, {report.device}"
    show_table(title, ["model", "parameters", *shown, "training"], rows)
