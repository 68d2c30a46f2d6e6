"""Pictures from saved numbers. Matplotlib draws into files, never on a screen."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxnets.store.atomic import atomic_file


def draw_answer(path: Path, views: np.ndarray, names: list[str], probabilities: np.ndarray, answer: np.ndarray) -> None:
    """One image on its way: how it looks through every view, what each network says, what they say together.

    views (V, H, W) in [0, 1], the plain picture first; names of M networks; probabilities (M, K); answer (K,).
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 2.2))[:, 0]
    upper.suptitle("One test image, as it is and through the fixed views", fontsize=10)
    for number, axes in enumerate(np.atleast_1d(upper.subplots(1, len(views)))):
        axes.imshow(views[number], cmap="gray_r", vmin=0, vmax=1)
        axes.set_xlabel("as it is" if number == 0 else f"view {number}", fontsize=8)
        axes.set(xticks=[], yticks=[])
    left, right = lower.subplots(1, 2, width_ratios=(2, 1))
    shade(left, names, probabilities)
    right.bar(range(len(answer)), answer, color="tab:blue")
    right.set(xlabel="class", ylabel="probability", ylim=(0, 1), xticks=range(len(answer)))
    right.set_title(f"all together: {answer.argmax()}", fontsize=10)
    save(figure, path)


def shade(axes: Axes, names: list[str], probabilities: np.ndarray) -> None:
    axes.imshow(probabilities, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(probabilities):
        if value >= 0.05:
            color = "white" if value > 0.5 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    axes.set(xlabel="class", xticks=range(probabilities.shape[1]))
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_title("each network's probabilities, averaged over the views", fontsize=10)


def draw_learning_curves(path: Path, histories: list[list[dict[str, float]]]) -> None:
    """One training or several: the loss and the accuracies by epoch.

    A history is a list of rows, each with "epoch", "loss" and one or two accuracies, "..._accuracy" in [0, 1].
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name for name in histories[0][0] if name.endswith("_accuracy")]
    for history in histories:
        epochs = [row["epoch"] for row in history]
        left.plot(epochs, [row["loss"] for row in history], color="tab:blue", alpha=0.7)
        for name, color in zip(names, ("tab:gray", "tab:red"), strict=False):
            right.plot(epochs, [100 * row[name] for row in history], color=color, alpha=0.7)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    right.legend([name.removesuffix("_accuracy") for name in names], loc="lower right")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)


def draw_predictions(path: Path, images: np.ndarray, labels: np.ndarray, probs: np.ndarray) -> None:
    """The first 32 images (N, H, W) with the class that probs (N, K) answer, red where it is not the label."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    figure.suptitle(f"The first {min(32, len(images))} images and the answers; red: wrong", fontsize=10)
    answers = probs.argmax(axis=1)
    for axes, image, label, answer in zip(grid(figure, 4, 8), images, labels, answers, strict=False):
        axes.imshow(image, cmap="gray_r")
        right = answer == label
        axes.set_xlabel(f"{answer}" if right else f"{answer}, is {label}", color="black" if right else "tab:red")
    save(figure, path)


def draw_mistakes(path: Path, images: np.ndarray, labels: np.ndarray, probs: np.ndarray) -> None:
    """The 16 wrong answers that probs (N, K) are surest of, the surest first."""
    answers, wrong = probs.argmax(axis=1), np.flatnonzero(probs.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probs[wrong, answers[wrong]], kind="stable")][:16]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(labels)} answers are wrong; the most confident of them", fontsize=10)
    for axes, row in zip(grid(figure, 2, 8), worst, strict=False):
        axes.imshow(images[row], cmap="gray_r")
        axes.set_xlabel(f"{answers[row]} ({probs[row, answers[row]]:.0%}), is {labels[row]}", fontsize=8)
    save(figure, path)


def confusion_counts(labels: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """labels (N,), answers (N,) -> counts (K, K): how often each label, a row, was answered as each class, a column."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, answers), 1)
    return counts


def draw_confusion(path: Path, counts: np.ndarray) -> None:
    """counts (K, K) as a table in which the mistakes are shaded."""
    num_classes = len(counts)
    mistakes = np.where(np.eye(num_classes, dtype=bool), 0, counts)
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Reds")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if mistakes[row, column] > 0.6 * mistakes.max() else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=color)
    axes.set(xlabel="answer", ylabel="label", xticks=range(num_classes), yticks=range(num_classes))
    axes.set_title(f"{mistakes.sum()} mistakes among {counts.sum()} images", fontsize=10)
    save(figure, path)


def draw_weights(path: Path, weights: np.ndarray) -> None:
    """The first 64 units' weights (U, H, W) as images, each on its own scale: red for ink, blue against it."""
    figure = Figure(figsize=(7, 7.4), layout="constrained")
    figure.suptitle(
        "Weights of the first layer, a unit a picture, each on its own scale; red: for ink, blue: against", fontsize=10
    )
    for axes, picture in zip(grid(figure, 8, 8), weights, strict=False):
        limit = np.abs(picture).max()
        axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
    save(figure, path)


def grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """Axes for pictures: without ticks, and without a frame where none is drawn."""
    panels = list(figure.subplots(rows, columns).flat)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return panels


def save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as draft:
        figure.savefig(draft, format=path.suffix[1:], dpi=110)
