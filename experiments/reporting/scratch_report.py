"""Writes report.html and the plots of NumPy trainings: accuracy, learning curves, first-layer weights and errors."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxnets import plots
from jaxnets.inference.ensemble import combine
from jaxnets.plots import Curve, save_png
from scratch.deform import DeformConfig, deform
from scratch.train import MLPConfig, learning_rates
from scratch.weights import load_params

from ..scratch_checkpoint import Row, read_history
from .error_analysis import Evaluation, save_confusion, save_missed
from .learning_curves import Panel, error_percent, make_panels, page_section, save_learning_curves
from .page import signed_png, write_page
from .sections import augmented_examples, error_sections

MAX_UNITS = 64
"""Maximum number of hidden units whose weights are shown on a page."""


class Trained(NamedTuple):
    """Results of M finished trainings: histories, log_probs (M, N, K), first-layer weights (U, H, W) of seed 0."""

    histories: list[list[Row]]
    log_probs: np.ndarray
    weights: np.ndarray


def read_trained(out: Path, shape: tuple[int, ...], seeds: int) -> Trained:
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    log_probs = []
    for folder in folders:
        with np.load(folder / "log_probs.npz", allow_pickle=False) as arrays:
            log_probs.append(arrays["log_probs"])
    w, _ = load_params(folders[0] / "weights.npz")[0]
    histories = [read_history(folder / "metrics.csv") for folder in folders]
    return Trained(histories, np.stack(log_probs), w.T.reshape(-1, *shape))


def make_evaluation(
    kind: str, data: str, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, log_probs: np.ndarray
) -> Evaluation:
    """images (N, H, W), labels (N,), their rows in the data, log_probs (M, N, K) of M seeds -> the evaluation."""
    names = [f"seed-{seed}" for seed in range(len(log_probs))]
    return Evaluation(kind, data, rows, images, labels, names, log_probs, combine(log_probs))


def save_plots(out: Path, evaluation: Evaluation, trained: Trained, panels: list[Panel]) -> None:
    """Write predictions.png, mistakes.png and confusion.png of the ensemble of all seeds, first_layer.png of seed 0 and
    learning_curves.png."""
    save_learning_curves(out / "learning_curves.png", panels)
    save_confusion(out / "confusion.png", evaluation)
    save_missed(out / "mistakes.png", evaluation)
    predictions = evaluation.ensemble.argmax(-1)
    save_png(plot_predictions(evaluation.images, evaluation.labels, predictions), out / "predictions.png")
    save_png(plot_weights(trained.weights), out / "first_layer.png")


@plots.styled
def plot_predictions(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> Figure:
    """Plot the first 32 images (N, H, W), labels (N,) with the predicted classes (N,), the wrong ones in colour."""
    figure = plots.new_figure(9, 5.2)
    figure.suptitle(f"The first {min(32, len(images))} images and their predictions")
    for axes, image, label, prediction in zip(
        plots.image_grid(figure, 4, 8), images, labels, predictions, strict=False
    ):
        plots.plot_image(axes, image)
        correct = prediction == label
        text = f"{prediction}" if correct else f"{prediction}, label {label}"
        axes.set_xlabel(text, color=plots.INK if correct else plots.SERIES[1])
    return figure


@plots.styled
def plot_weights(weights: np.ndarray) -> Figure:
    """Plot the weights (U, H, W) of the first 64 hidden units as images, each on its own colour scale."""
    figure = plots.new_figure(7, 7.4)
    figure.suptitle("Weights of the first layer, one image per hidden unit: red positive, blue negative")
    for axes, image in zip(plots.image_grid(figure, 8, 8), weights, strict=False):
        limit = np.abs(image).max()
        axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def write_scratch_report(
    out: Path,
    summary: dict[str, Any],
    evaluation: Evaluation,
    settings: MLPConfig,
    trained: Trained,
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Write report.html and the plots of `save_plots` to `out`. images (N, H, W), labels (N,): the training images."""
    scored = "valid" if evaluation.kind == "validation" else "test"
    panels = learning_curves(evaluation, settings, trained.histories, len(images), scored)
    save_plots(out, evaluation, trained, panels)
    write_page(
        out / "report.html",
        "scratch.html",
        summary=summary,
        settings={name: value for name, value in vars(settings).items() if isinstance(value, int | float | str)},
        data=evaluation.data,
        last=[history[-1] for history in trained.histories],
        scored=scored,
        curves=page_section(panels, legend=panels[1].curves),
        augmented=augmented(images, labels, settings.deformation) if settings.deformation else None,
        units=[signed_png(unit) for unit in trained.weights[:MAX_UNITS]],
        all_units=len(trained.weights),
        **error_sections(evaluation, None),
    )


def learning_curves(
    evaluation: Evaluation, settings: MLPConfig, histories: list[list[Row]], train_rows: int, scored: str
) -> list[Panel]:
    """Return the curves of each seed; errors on training images are dashed. All seeds share the learning rate."""
    loss, errors = [], []
    num_images = len(evaluation.labels)  # the training accuracy is measured on as many images
    for seed, (name, history) in enumerate(zip(evaluation.names, histories, strict=True)):
        epochs = [row["epoch"] for row in history]
        loss.append(Curve(name, seed, False, epochs, [row["loss"] for row in history]))
        for dashed, key, suffix in ((False, scored, ""), (True, "train", ", training images")):
            values = [error_percent(row[f"{key}_accuracy"], num_images) for row in history]
            errors.append(Curve(name + suffix, seed, dashed, epochs, values))
    steps = -(-train_rows // settings.batch_size)
    rates = [float(learning_rates(settings, epoch, steps)[-1]) for epoch in range(settings.epochs)]
    epochs = [float(epoch + 1) for epoch in range(settings.epochs)]
    return make_panels(loss, errors, [Curve("all seeds", 0, False, epochs, rates)], evaluation.kind)


def augmented(images: np.ndarray, labels: np.ndarray, strength: DeformConfig) -> list[dict[str, Any]]:
    """Return the first image of three classes, each augmented eight times as in training."""
    rng = np.random.default_rng(0)
    return augmented_examples(images, labels, lambda batch: deform(rng, batch, strength))
