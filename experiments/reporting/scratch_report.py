"""What was left by the trainings in NumPy -> report.html: how good they are, how they learnt, what they look for and
where they fail."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.page import signed_png, write_page
from experiments.reporting.sections import (
    Judged,
    by_number,
    confusion,
    disagreement,
    first_of_each,
    headline,
    missed,
    previews,
    reliability,
)
from experiments.reporting.svg import SERIES, Line, describe_curves, draw_curves
from experiments.scratch_checkpoint import Row, read_history
from jaxnets import plots
from jaxnets.inference.ensemble import combine
from scratch.deform import Strength, deform
from scratch.train import Settings, learning_rates
from scratch.weights import load_params

UNITS = 64
"""Pictures of weights on a page: the first ones."""


class Trained(NamedTuple):
    """What M finished trainings left: their histories, answers (M, N, K), and the first one's first weights (U, H,
    W)."""

    histories: list[list[Row]]
    log_probs: np.ndarray
    weights: np.ndarray


def read_trained(out: Path, shape: tuple[int, ...], seeds: int) -> Trained:
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    answers = []
    for folder in folders:
        with np.load(folder / "log_probs.npz", allow_pickle=False) as arrays:
            answers.append(arrays["log_probs"])
    w, _ = load_params(folders[0] / "weights.npz")[0]
    histories = [read_history(folder / "metrics.csv") for folder in folders]
    return Trained(histories, np.stack(answers), w.T.reshape(-1, *shape))


def draw(out: Path, judged: Judged, trained: Trained) -> None:
    """The pictures: of the first network, but the learning curves of all."""
    probs = np.exp(trained.log_probs[0])
    plots.draw_learning_curves(out / "learning_curves.png", trained.histories)
    plots.draw_predictions(out / "predictions.png", judged.images, judged.labels, probs)
    plots.draw_mistakes(out / "mistakes.png", judged.images, judged.labels, probs)
    counts = plots.confusion_counts(judged.labels, probs.argmax(axis=1), probs.shape[1])
    plots.draw_confusion(out / "confusion.png", counts)
    plots.draw_weights(out / "first_layer.png", trained.weights)


def write_scratch_report(
    out: Path,
    summary: dict[str, Any],
    judged: Judged,
    settings: Settings,
    trained: Trained,
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Leaves report.html in `out`. images (N, H, W) and labels (N,) are those that it was trained on."""
    write_page(
        out / "report.html",
        "scratch.html",
        summary=summary,
        settings={name: value for name, value in vars(settings).items() if isinstance(value, int | float | str)},
        judged=judged,
        headline=headline(judged),
        last=[history[-1] for history in trained.histories],
        scored="valid" if judged.kind == "validation" else "test",
        curves=curves(judged, settings, trained.histories, summary["train_rows"]),
        warps=warps(images, labels, settings.deformation) if settings.deformation else None,
        units=[signed_png(unit) for unit in trained.weights[:UNITS]],
        all_units=len(trained.weights),
        confusion=confusion(judged),
        missed=missed(judged),
        reliability=reliability(judged, None),
        by_number=by_number(judged),
        disagreement=disagreement(judged),
    )


def judge(
    kind: str, data: str, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, answers: np.ndarray
) -> Judged:
    """images (N, H, W), labels (N,), their `rows` in the file, answers (M, N, K), a network a seed."""
    names = [f"seed-{seed}" for seed in range(len(answers))]
    return Judged(kind, data, rows, images, labels, names, answers, combine(answers))


def curves(judged: Judged, settings: Settings, histories: list[list[Row]], images: int) -> dict[str, Any]:
    """A chart each of the loss, the errors and the learning rate, which follows from the settings alone."""
    name = "valid_accuracy" if judged.kind == "validation" else "test_accuracy"
    steps, least = -(-images // settings.batch_size), 0.5 / len(judged.labels)

    def lines(values: list[list[float]]) -> list[Line]:
        return [
            Line(seed, number % len(SERIES), False, [row["epoch"] for row in history], ours)
            for number, (seed, history, ours) in enumerate(zip(judged.names, histories, values, strict=True))
        ]

    loss = lines([[row["loss"] for row in history] for history in histories])
    errors = lines([[100 * max(1 - row[name], least) for row in history] for history in histories])
    rates = [learning_rates(settings, epoch, steps)[-1] for epoch in range(settings.epochs)]
    rate = [Line("all", 0, False, [float(epoch + 1) for epoch in range(settings.epochs)], rates)]
    charts = [
        draw_curves(loss, "training loss", describe_curves(loss, "Training loss", "{:.3f}".format)),
        draw_curves(
            errors,
            f"{judged.kind} images answered wrong, %",
            describe_curves(errors, f"Errors on {judged.kind} images", "{:.2f} %".format),
        ),
        draw_curves(rate, "learning rate", describe_curves(rate, "Learning rate", "{:.2g}".format), logarithmic=False),
    ]
    return {"charts": charts, "legend": [{"name": line.name, "colour": line.colour, "dashed": False} for line in loss]}


def warps(images: np.ndarray, labels: np.ndarray, strength: Strength) -> list[dict[str, Any]]:
    """The first image of three classes, each deformed eight times as in training."""
    rows = first_of_each(labels, 3)
    warped = deform(np.random.default_rng(0), np.repeat(images[rows], 8, axis=0), strength)
    return previews(images[rows], labels[rows], warped.reshape(len(rows), 8, *images.shape[1:]))
