"""Writes report.html of a run: provenance, learning curves, errors and calibration, with the plots as PNG files."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.config import AugmentConfig, PseudoLabelConfig
from jaxnets.data import Digits
from jaxnets.inference.calibrate import apply_temperature
from jaxnets.inference.ensemble import combine
from jaxnets.plots import Curve
from jaxnets.runs import read_config
from jaxnets.training.history import read_history

from ..cli.provenance import read_seconds
from .error_analysis import Evaluation, save_error_plots, short_names
from .learning_curves import Panel, error_percent, make_panels, page_section
from .metrics import Predictions, mean_over_views
from .page import png, write_page
from .sections import augmented_examples, error_sections, top_class

SHOWN = 12
"""Number of pseudo-labels of each kind on a page."""

UNSURE, SPLIT, FULL = "low confidence", "teachers disagree", "class is full"


def write_report(
    out: Path,
    report: dict[str, Any],
    predictions: Predictions,
    digits: Digits,
    valid_rows: np.ndarray,
    selection: PseudoLabelConfig | None = None,
) -> None:
    """Write report.html to `out` and, if the test images have labels, the plots of `save_error_plots`.

    `selection` is how pseudo-labels were selected, None if there are none.
    """
    evaluation, summary = make_evaluation(report, predictions, digits, valid_rows), report["pseudo_labels"]
    temperature = report["ensemble"]["temperature"]
    if evaluation.kind == "test":
        save_error_plots(out, evaluation, temperature)
    panels = learning_curves(predictions.folders, len(predictions.valid_labels))
    write_page(
        out / "report.html",
        "report.html",
        report=report,
        curves=page_section(panels, legend=panels[0].curves),
        stages=stages(report["members"], evaluation.names, read_seconds(out)),
        augmented=augmented(digits, read_config(predictions.folders[0]).recipe.training.augmentation),
        pseudo_labels=pseudo_labels(out, summary, predictions, digits.x_test, selection)
        if selection and summary
        else None,
        **error_sections(evaluation, temperature),
    )


def make_evaluation(
    report: dict[str, Any], predictions: Predictions, digits: Digits, valid_rows: np.ndarray
) -> Evaluation:
    """Return the predictions of the test images, or of the validation images if the test images have no labels."""
    has_labels = predictions.test_labels is not None
    members = mean_over_views(predictions.test if has_labels else predictions.valid)
    return Evaluation(
        kind="test" if has_labels else "validation",
        data=digits.name,
        rows=np.arange(len(digits.x_test)) if has_labels else valid_rows,
        images=digits.x_test if has_labels else digits.x_train[valid_rows],
        labels=predictions.valid_labels if predictions.test_labels is None else predictions.test_labels,
        names=short_names(predictions.folders),
        members=members,
        ensemble=combine(members, np.array(report["ensemble"]["weights"])),
    )


def learning_curves(folders: list[Path], num_images: int) -> list[Panel]:
    """Return the curves of each run; one colour per family, dashed for students. `num_images` are validation images."""
    runs = [read_config(folder) for folder in folders]
    families = list(dict.fromkeys(run.recipe.family for run in runs))
    loss, errors, learning_rate = [], [], []
    for name, run, folder in zip(short_names(folders), runs, folders, strict=True):
        history = read_history(folder)
        epochs = [row["epoch"] for row in history]
        curve = partial(Curve, name, families.index(run.recipe.family), run.pseudo_labels is not None, epochs)
        loss.append(curve([row["loss"] for row in history]))
        learning_rate.append(curve([row["learning_rate"] for row in history]))
        if num_images:
            errors.append(curve([error_percent(row["valid_accuracy"], num_images) for row in history]))
    return make_panels(loss, errors, learning_rate, "validation")


def stages(members: list[dict[str, Any]], names: list[str], seconds: dict[str, float]) -> dict[str, Any]:
    """Return the seconds of compilation, training and prediction of each model, if known, and of the other stages."""
    models: list[dict[str, Any]] = []
    for name, member in zip(names, members, strict=True):
        parts = {"compile": member["compile_seconds"], "train": member["train_seconds"]}
        models.append({"name": name, "parts": parts | {"predict": seconds.get(f"predict {name}")}})
    longest = max(sum(filter(None, model["parts"].values())) for model in models)
    others = {stage: value for stage, value in seconds.items() if not stage.startswith("predict ")}
    return {"models": models, "longest": longest, "others": others}


def augmented(digits: Digits, strength: AugmentConfig) -> list[dict[str, Any]]:
    """Return the first training image of three classes, each augmented eight times as in training."""
    import jax

    from jaxnets.augment import augment

    def augment_batch(batch: np.ndarray) -> np.ndarray:
        keys = jax.random.split(jax.random.key(0), len(batch))
        return np.asarray(jax.jit(partial(augment, warping=strength))(keys, batch.astype(np.float32) / 255))

    return augmented_examples(digits.x_train, digits.y_train, augment_batch)


def pseudo_labels(
    out: Path, summary: dict[str, Any], predictions: Predictions, images: np.ndarray, selection: PseudoLabelConfig
) -> dict[str, Any]:
    """Return which test images (T, H, W, C) the students were trained on, why the others were rejected, and examples of
    both, the least confident first."""
    teachers = mean_over_views(predictions.test[np.array(predictions.inductive)])
    mean = apply_temperature(combine(teachers), summary["temperature"])
    predicted, confidence = mean.argmax(-1), np.exp(mean.max(-1))
    votes = (teachers.argmax(-1) == predicted).sum(axis=0)
    with np.load(out / "pseudo_labels" / "selected.npz", allow_pickle=False) as file:
        selected = np.isin(np.arange(len(images)), file["rows"])
    unsure, split = confidence < selection.threshold, votes / len(teachers) < selection.agreement
    reasons = np.select([selected, unsure, split], ["selected", UNSURE, SPLIT], FULL)
    labels = predictions.test_labels

    def card(row: int) -> dict[str, Any]:
        return {
            "row": row,
            "image": png(images[row]),
            "reason": str(reasons[row]),
            "votes": int(votes[row]),
            "label": None if labels is None else int(labels[row]),
            **top_class(mean[row]),
        }

    def cards(mask: np.ndarray) -> list[dict[str, Any]]:
        rows = np.flatnonzero(mask)
        return [card(int(row)) for row in rows[np.argsort(confidence[rows], kind="stable")][:SHOWN]]

    return {
        "rejected": {reason: int((reasons == reason).sum()) for reason in (UNSURE, SPLIT, FULL)},
        "accuracy": None if labels is None or not selected.any() else float((predicted == labels)[selected].mean()),
        "kinds": {"Selected": cards(selected), "Rejected": cards(~selected)},
        "teachers": len(teachers),
        "per_class": selection.per_class,
    }
