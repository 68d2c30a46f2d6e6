"""Sections of a report page: arrays in, values for a template out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxnets.inference.analysis import reliability_bins
from jaxnets.plots import inline_svg, panels, plot_errors_by_size, plot_reliability

from .error_analysis import Evaluation, reliability_cases
from .page import percent, png

MAX_CARDS = 60
"""Maximum number of misclassified images on a page. An untrained model misclassifies thousands."""


def error_sections(evaluation: Evaluation, temperature: float | None) -> dict[str, Any]:
    """Return the sections that both reports share."""
    return {
        "headline": headline(evaluation),
        "names": evaluation.names,
        "confusion": confusion(evaluation),
        "missed": missed(evaluation),
        "reliability": reliability(evaluation, temperature),
        "sizes": ensemble_sizes(evaluation),
        "disagreement": disagreement(evaluation),
    }


def headline(evaluation: Evaluation) -> dict[str, Any]:
    errors, images = len(evaluation.misclassified()), len(evaluation.labels)
    return {"kind": evaluation.kind, "errors": errors, "images": images, "accuracy": 1 - errors / images}


def confusion(evaluation: Evaluation) -> dict[str, Any]:
    """Return the confusion matrix: one row per label, one column per prediction. Only the errors are shaded."""
    counts = evaluation.confusion_counts()
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    return shaded_table([str(label) for label in range(len(counts))], counts, errors)


def disagreement(evaluation: Evaluation) -> dict[str, Any]:
    """Return the table of images on which two models disagree."""
    counts = evaluation.disagreement()
    return shaded_table(evaluation.names, counts, counts)


def shaded_table(names: list[str], counts: np.ndarray, shades: np.ndarray) -> dict[str, Any]:
    relative = shades / max(shades.max(), 1)
    cells = [
        [{"count": int(count), "shade": f"{shade:.2f}"} for count, shade in zip(*row, strict=True)]
        for row in zip(counts, relative, strict=True)
    ]
    return {"names": names, "rows": list(zip(names, cells, strict=True))}


def missed(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one card per misclassified image, the most confident prediction first."""
    return [card(evaluation, int(index)) for index in evaluation.misclassified()[:MAX_CARDS]]


def card(evaluation: Evaluation, index: int) -> dict[str, Any]:
    """Return an image with the predictions of the ensemble and of each model."""
    row = int(evaluation.rows[index])
    members = zip(evaluation.names, evaluation.members[:, index], strict=True)
    return {
        "row": row,
        "image": png(evaluation.images[index]),
        "label": int(evaluation.labels[index]),
        "label_error": row in evaluation.label_errors(),
        **top_class(evaluation.ensemble[index]),
        "members": [{"name": name, **top_class(log_probs)} for name, log_probs in members],
    }


def top_class(log_probs: np.ndarray) -> dict[str, Any]:
    """log_probs (K,) -> the predicted class and its probability."""
    return {"prediction": int(log_probs.argmax()), "confidence": float(np.exp(log_probs.max()))}


def reliability(evaluation: Evaluation, temperature: float | None) -> list[Markup]:
    """Return a reliability diagram of the ensemble, and one after temperature scaling if there is a temperature."""
    charts = []
    for title, log_probs in reliability_cases(evaluation, temperature).items():
        [axes] = panels(height=3.7)
        bins = reliability_bins(log_probs, evaluation.labels)
        plot_reliability(axes, bins, title)
        points = [f"{percent(accuracy)} of {count:,} at {percent(confidence)}" for confidence, accuracy, count in bins]
        charts.append(Markup(inline_svg(axes.figure, f"{title}. Accuracy by mean confidence: {', '.join(points)}")))
    return charts


def ensemble_sizes(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the chart of errors by ensemble size; None if there is one model only."""
    if len(evaluation.names) == 1:
        return None
    errors = evaluation.subset_errors()
    [axes] = panels()
    plot_errors_by_size(axes, errors, len(evaluation.labels))
    means = [f"{np.mean(counts):.1f} with {size}" for size, counts in enumerate(errors, start=1)]
    svg = Markup(inline_svg(axes.figure, f"Mean errors by number of models: {', '.join(means)}"))
    return {"svg": svg, "single": float(np.mean(errors[0])), "all": errors[-1][0]}


def augmented_examples(
    images: np.ndarray, labels: np.ndarray, augment: Callable[[np.ndarray], np.ndarray]
) -> list[dict[str, Any]]:
    """images (N, H, W[, C]), labels (N,) -> the first image of three classes, each augmented eight times."""
    rows = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:3]]
    augmented = augment(np.repeat(images[rows], 8, axis=0)).reshape(len(rows), 8, *images.shape[1:])
    return [
        {"label": int(labels[row]), "image": png(images[row]), "augmented": [png(sample) for sample in samples]}
        for row, samples in zip(rows, augmented, strict=True)
    ]
