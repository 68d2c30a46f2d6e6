"""Pictures from saved numbers. Matplotlib draws into files, never on a screen."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxnets.files import atomic_file


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
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_title("each network's probabilities, averaged over the views", fontsize=10)


def save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as draft:
        figure.savefig(draft, format=path.suffix[1:], dpi=110)
