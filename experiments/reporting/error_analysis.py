"""Error analysis of an ensemble on labelled images: plots as PNG files, and mistakes.csv."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets import plots
from jaxnets.errors import printable
from jaxnets.inference import analysis
from jaxnets.inference.calibrate import apply_temperature, calibration_error
from jaxnets.plots import save_png
from jaxnets.store.atomic import atomic_file

LABEL_ERRORS = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}
"""Rows of MNIST's test file with a label error, according to human reviewers: Northcutt et al., "Pervasive Label Errors
in Test Sets", 2021."""


class Evaluation(NamedTuple):
    """Labelled images that no model was trained on, and the predictions of M models and of their ensemble."""

    kind: str  # "test", "validation" if the test images have no labels, or "out-of-fold"
    data: str
    rows: np.ndarray  # (N,), indices into the test or training images of the data
    images: np.ndarray  # (N, H, W) or (N, H, W, C)
    labels: np.ndarray  # (N,)
    names: list[str]
    members: np.ndarray  # (M, N, K) log-probabilities
    ensemble: np.ndarray  # (N, K) log-probabilities

    def misclassified(self) -> np.ndarray:
        return analysis.misclassified(self.ensemble, self.labels)

    def confusion_counts(self) -> np.ndarray:
        return analysis.confusion_counts(self.labels, self.ensemble.argmax(-1), self.ensemble.shape[-1])

    def disagreement(self) -> np.ndarray:
        return analysis.disagreement(self.members, self.labels)

    def subset_errors(self) -> list[list[int]]:
        return analysis.subset_errors(self.members, self.labels)

    def label_errors(self) -> set[int]:
        return LABEL_ERRORS if (self.data, self.kind) == ("mnist", "test") else set()


def reliability_cases(evaluation: Evaluation, temperature: float | None) -> dict[str, np.ndarray]:
    """Return the predictions of the ensemble by title: uncalibrated and, if there is a temperature, scaled."""
    cases = {"uncalibrated": evaluation.ensemble}
    if temperature is not None:
        cases[f"temperature {temperature:.2f}"] = apply_temperature(evaluation.ensemble, temperature)
    errors = {name: calibration_error(case, evaluation.labels, bins=10) for name, case in cases.items()}
    return {f"{name}: calibration error {errors[name]:.2%}": case for name, case in cases.items()}


def save_error_plots(out: Path, evaluation: Evaluation, temperature: float | None) -> None:
    """Write confusion.png, missed.png, members.png, disagreement.png, reliability.png and mistakes.csv to `out`."""
    save_confusion(out / "confusion.png", evaluation)
    save_missed(out / "missed.png", evaluation)
    [axes] = plots.panels()
    plots.plot_errors_by_size(axes, evaluation.subset_errors(), len(evaluation.labels))
    save_png(axes.figure, out / "members.png")
    side = 2.5 + 0.4 * len(evaluation.names)
    [axes] = plots.panels(width=side, height=side)
    plots.plot_disagreement(axes, evaluation.disagreement(), evaluation.names)
    save_png(axes.figure, out / "disagreement.png")
    cases = reliability_cases(evaluation, temperature)
    grid = plots.panels(len(cases), height=3.7)
    for axes, (title, log_probs) in zip(grid, cases.items(), strict=True):
        plots.plot_reliability(axes, analysis.reliability_bins(log_probs, evaluation.labels), title)
    save_png(grid[0].figure, out / "reliability.png")
    write_mistakes(out / "mistakes.csv", evaluation)


def save_confusion(path: Path, evaluation: Evaluation) -> None:
    [axes] = plots.panels(height=4)
    plots.plot_confusion(axes, evaluation.confusion_counts())
    save_png(axes.figure, path)


def save_missed(path: Path, evaluation: Evaluation) -> None:
    figure = plots.plot_missed(
        evaluation.images,
        evaluation.labels,
        evaluation.members,
        evaluation.ensemble,
        rows=evaluation.rows,
        label_errors=evaluation.label_errors(),
    )
    save_png(figure, path)


def write_mistakes(path: Path, evaluation: Evaluation) -> None:
    """Write one line per misclassified image: row, label, prediction, its probability, prediction of each model.

    A model whose name is that of another column gets a path as its name, such as ./label.
    """
    import pandas as pd

    wrong = np.sort(evaluation.misclassified())
    columns = {
        "row": evaluation.rows[wrong],
        "label": evaluation.labels[wrong],
        "prediction": evaluation.ensemble[wrong].argmax(-1),
        "probability": np.exp(evaluation.ensemble[wrong].max(-1)).round(4),
    }
    names = [f"./{name}" if name in columns else name for name in evaluation.names]
    columns |= dict(zip(names, evaluation.members[:, wrong].argmax(-1), strict=True))
    with atomic_file(path) as draft:
        pd.DataFrame(columns).to_csv(draft, index=False)


def short_names(folders: list[Path]) -> list[str]:
    """Return the name of each folder, with as many parents as make the names unique, in printable characters."""
    parts = [folder.resolve().parts for folder in folders]
    length = next(n for n in range(1, 99) if len({part[-n:] for part in parts}) == len(set(parts)))
    return [printable("/".join(part[-length:])) for part in parts]
