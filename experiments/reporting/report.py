"""A job's numbers, answers and images -> report.html: what ran where, how the networks learnt, and where they fail."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.provenance import read_seconds
from experiments.reporting.error_analysis import short_names
from experiments.reporting.metrics import Predictions, mean_over_views
from experiments.reporting.page import png, write_page
from experiments.reporting.sections import (
    Judged,
    by_number,
    confusion,
    disagreement,
    first_of_each,
    headline,
    missed,
    opinion,
    previews,
    reliability,
)
from experiments.reporting.svg import SERIES, Line, describe_curves, draw_curves
from jaxnets.config import Augmentation, Selection
from jaxnets.data import Digits
from jaxnets.inference.calibrate import apply_temperature
from jaxnets.inference.ensemble import combine
from jaxnets.runs import read_config
from jaxnets.training.fit import read_history

SHOWN = 12
"""Pseudo-labels of each kind on a page."""

UNSURE, SPLIT, FULL = "not sure enough", "the teachers differ", "its class was full"


def write_report(
    out: Path,
    report: dict[str, Any],
    answers: Predictions,
    digits: Digits,
    valid_rows: np.ndarray,
    selection: Selection | None = None,
) -> None:
    """Leaves report.html in `out`. `selection` is by what pseudo-labels were chosen, if any were."""
    judged, summary = judge(report, answers, digits, valid_rows), report["pseudo_labels"]
    write_page(
        out / "report.html",
        "report.html",
        report=report,
        headline=headline(judged),
        curves=curves(answers.folders, len(answers.valid_labels)),
        stages=stages(report["members"], judged.names, read_seconds(out)),
        warps=warps(digits, read_config(answers.folders[0]).recipe.training.augmentation),
        confusion=confusion(judged),
        missed=missed(judged),
        reliability=reliability(judged, report["ensemble"]["temperature"]),
        by_number=by_number(judged),
        disagreement=disagreement(judged),
        names=judged.names,
        pseudo_labels=pseudo_labels(out, summary, answers, digits.x_test, selection) if summary and selection else None,
    )


def judge(report: dict[str, Any], answers: Predictions, digits: Digits, valid_rows: np.ndarray) -> Judged:
    """By the test images, or by the validation images where those have no labels."""
    weights, names = np.array(report["ensemble"]["weights"]), short_names(answers.folders)
    if answers.test_labels is None:
        members, labels = mean_over_views(answers.valid), answers.valid_labels
        asked = ("validation", digits.name, valid_rows, digits.x_train[valid_rows], labels)
    else:
        members, labels = mean_over_views(answers.test), answers.test_labels
        asked = ("test", digits.name, np.arange(len(labels)), digits.x_test, labels)
    return Judged(*asked, names, members, combine(members, weights))


def curves(folders: list[Path], images: int) -> dict[str, Any]:
    """A chart each of the loss, the errors on so many validation images and the learning rate; who has which colour."""
    names, runs = short_names(folders), [read_config(folder) for folder in folders]
    families = list(dict.fromkeys(run.recipe.family for run in runs))
    looks = [(families.index(run.recipe.family), run.pseudo_labels is not None) for run in runs]
    histories = [read_history(folder) for folder in folders]

    def lines(value: Callable[[dict[str, float]], float]) -> list[Line]:
        return [
            Line(name, colour, dashed, [row["epoch"] for row in history], [value(row) for row in history])
            for name, (colour, dashed), history in zip(names, looks, histories, strict=True)
        ]

    loss, rate = lines(lambda row: row["loss"]), lines(lambda row: row["learning_rate"])
    charts = [draw_curves(loss, "training loss", describe_curves(loss, "Training loss", "{:.3f}".format))]
    if images:  # no error at all has no place on a logarithmic axis: half an image stands for it
        errors = lines(lambda row: 100 * max(1 - row["valid_accuracy"], 0.5 / images))
        says = describe_curves(errors, "Validation errors", "{:.2f} %".format)
        charts.append(draw_curves(errors, "validation images answered wrong, %", says))
    says = describe_curves(rate, "Learning rate at the end of each epoch", "{:.2g}".format)
    charts.append(draw_curves(rate, "learning rate", says, logarithmic=False))
    legend = [{"name": line.name, "colour": line.colour % len(SERIES), "dashed": line.dashed} for line in loss]
    return {"charts": charts, "legend": legend}


def stages(members: list[dict[str, Any]], names: list[str], seconds: dict[str, float]) -> dict[str, Any]:
    """Seconds of compiling, training and predicting by network, as far as they are known, and of the other stages."""
    networks: list[dict[str, Any]] = []
    for name, member in zip(names, members, strict=True):
        parts = {"compile": member["compile_seconds"], "train": member["train_seconds"]}
        networks.append({"name": name, "parts": parts | {"predict": seconds.pop(f"predict {name}", None)}})
    longest = max(sum(filter(None, network["parts"].values())) for network in networks)
    others = {stage: value for stage, value in seconds.items() if not stage.startswith("predict ")}
    return {"networks": networks, "longest": longest, "others": others}


def warps(digits: Digits, strength: Augmentation) -> list[dict[str, Any]]:
    """The first training image of three classes, each through eight warps such as the networks were shown."""
    import jax

    from jaxnets.augment import augment

    rows = first_of_each(digits.y_train, 3)
    pictures = digits.x_train[rows].astype(np.float32) / 255
    keys = jax.random.split(jax.random.key(0), 8 * len(rows))
    warped = np.asarray(jax.jit(partial(augment, strength=strength))(keys, np.repeat(pictures, 8, axis=0)))
    return previews(pictures, digits.y_train[rows], warped.reshape(len(rows), 8, *pictures.shape[1:]))


def pseudo_labels(
    out: Path, summary: dict[str, Any], answers: Predictions, images: np.ndarray, selection: Selection
) -> dict[str, Any]:
    """Which of the test images (T, H, W, C) the students learnt, and why not the others; some of both, the least sure
    first."""
    teachers = mean_over_views(answers.test[np.array(answers.inductive)])
    mean = apply_temperature(combine(teachers), summary["temperature"])
    answer, sureness = mean.argmax(-1), np.exp(mean.max(-1))
    votes = (teachers.argmax(-1) == answer).sum(axis=0)
    with np.load(out / "pseudo_labels" / "selected.npz", allow_pickle=False) as file:
        chosen = np.isin(np.arange(len(images)), file["rows"])
    unsure, split = sureness < selection.threshold, votes / len(teachers) < selection.agreement
    why = np.select([chosen, unsure, split], ["chosen", UNSURE, SPLIT], FULL)
    labels = answers.test_labels

    def cards(which: np.ndarray) -> list[dict[str, Any]]:
        rows = np.flatnonzero(which)
        shown = rows[np.argsort(sureness[rows], kind="stable")][:SHOWN]
        return [
            {"row": int(row), "image": png(images[row]), "why": str(why[row]), "agree": int(votes[row])}
            | opinion(mean[row])
            | {"label": None if labels is None else int(labels[row])}
            for row in shown
        ]

    return {
        "refused": {reason: int((why == reason).sum()) for reason in (UNSURE, SPLIT, FULL)},
        "right": None if labels is None or not chosen.any() else float((answer == labels)[chosen].mean()),
        "kinds": {"Chosen": cards(chosen), "Refused": cards(~chosen)},
        "teachers": len(teachers),
        "per_class": selection.per_class,
    }
