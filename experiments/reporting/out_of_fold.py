"""Scores of out-of-fold predictions: each labelled row is predicted by models that were not trained on it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaxnets.data import Digits
from jaxnets.errors import InputError
from jaxnets.inference.calibrate import calibration_error
from jaxnets.inference.compare import Comparison, compare
from jaxnets.inference.ensemble import combine, nll
from jaxnets.store.atomic import write_json

from ..cli.console import show_table
from ..cli.provenance import command
from .error_analysis import Evaluation, save_error_plots

SCORES = "out_of_fold.json"
"""Name of the file with the scores in the output directory of a cross-validation."""


@dataclass(frozen=True, kw_only=True)
class OutOfFoldScore:
    """How a model, or the ensemble, classifies rows that it was not trained on."""

    model: str
    views: int
    errors: int
    rows: int
    nll: float
    calibration_error: float


def report(out: Path, title: str, log_probs: dict[str, np.ndarray], digits: Digits) -> None:
    """Print the scores of the out-of-fold predictions, `log_probs` (V, N, K) by model, of all N labelled rows.

    Writes out_of_fold.json, mistakes.csv and the plots of the ensemble's errors to `out`.
    """
    scores = score_models(log_probs, digits.y_train)
    write_json(out / SCORES, {"command": command(), "scores": [asdict(score) for score in scores]})
    show_scores(title, scores)
    save_error_plots(out, make_evaluation(log_probs, digits), temperature=None)


def score_models(log_probs: dict[str, np.ndarray], labels: np.ndarray) -> list[OutOfFoldScore]:
    """Score every model, `log_probs` (V, N, K) by name, and their ensemble on N rows, with one view and with all."""
    return [
        OutOfFoldScore(
            model=name,
            views=views,
            errors=int((mean.argmax(axis=-1) != labels).sum()),
            rows=len(labels),
            nll=nll(mean, labels),
            calibration_error=calibration_error(mean, labels),
        )
        for name, means in mean_by_views(log_probs).items()
        for views, mean in means.items()
    ]


def mean_by_views(log_probs: dict[str, np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """log_probs (V, N, K) by model -> the log of mean probabilities (N, K), by model and by the number of views.

    The numbers are 1 and, if there are more views, V. With several models, `ensemble` is added.
    """
    views = sorted({1, *(len(array) for array in log_probs.values())})
    means = {name: {v: combine(array[:v]) for v in views} for name, array in log_probs.items()}
    if len(means) > 1:
        means["ensemble"] = {v: combine(np.stack([mean[v] for mean in means.values()])) for v in views}
    return means


def show_scores(title: str, scores: list[OutOfFoldScore]) -> None:
    """Print a table with a row per score."""
    rows = [
        [
            score.model,
            f"{score.views}",
            f"{score.errors}",
            f"{score.errors / score.rows:.3%}",
            f"{score.nll:.4f}",
            f"{score.calibration_error:.3%}",
        ]
        for score in scores
    ]
    show_table(title, ["model", "views", "errors", "error rate", "NLL", "calibration error"], rows)


def compare_models(
    log_probs: dict[str, np.ndarray], other: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, Comparison]:
    """Compare every model that both have, and their ensembles, with one view. Raises InputError if there are none."""
    names = sorted(log_probs.keys() & other.keys())
    if not names:
        raise InputError("--against", f"has other models: {', '.join(other)}", "compare the same families")
    means, other_means = (mean_by_views({name: both[name] for name in names}) for both in (log_probs, other))
    return {name: compare(means[name][1], other_means[name][1], labels) for name in means}


def show_comparison(title: str, comparisons: dict[str, Comparison]) -> None:
    """Print a table with a row per comparison."""
    rows = [
        [
            name,
            f"{comparison.only_first}",
            f"{comparison.only_second}",
            f"{comparison.p_value:.3f}",
            f"{comparison.nll_difference:+.5f} ± {comparison.nll_standard_error:.5f}",
        ]
        for name, comparison in comparisons.items()
    ]
    title += ": rows that only one classifies wrongly, McNemar's p, NLL"
    show_table(title, ["model", "only here", "only there", "p", "NLL difference"], rows)


def make_evaluation(log_probs: dict[str, np.ndarray], digits: Digits) -> Evaluation:
    """Return the mean predictions over all views, `log_probs` (V, N, K) by model, of the N labelled rows."""
    members = np.stack([combine(array) for array in log_probs.values()])
    return Evaluation(
        kind="out-of-fold",
        data=digits.name,
        rows=np.arange(len(digits.y_train)),
        images=digits.x_train,
        labels=digits.y_train,
        names=list(log_probs),
        members=members,
        ensemble=combine(members),
    )
