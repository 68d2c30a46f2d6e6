"""Plots on matplotlib Axes, saved as PNG files or as SVG elements of a web page. No display is needed.

For example:

    [axes] = panels()
    plot_reliability(axes, reliability_bins(log_probs, labels), "ensemble")
    save_png(axes.figure, Path("reliability.png"))
"""

import html
import io
import re
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jaxnets.inference.analysis import ReliabilityBin, misclassified
from jaxnets.store.atomic import atomic_file

INK, FAINT = "#1b1f24", "#5c6672"
SERIES = ("#0072b2", "#d55e00", "#008a63", "#b0508a", "#8a6d00", "#57606a")
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "X": "✖"}
"""A marker for each colour of SERIES, so that curves can be told apart without seeing colours, and the same as text."""

CSS_VARIABLES = {INK: "--ink", FAINT: "--faint"} | {color: f"--series-{i}" for i, color in enumerate(SERIES)}
"""CSS variables that replace the colours in an inline SVG, so that a page can define a dark mode."""

MAX_MISSED = 80
"""Maximum number of images in a plot of misclassified images."""

STYLE: Any = {
    "svg.fonttype": "none",  # keeps text as text, for screen readers, search and copying
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.titlesize": 10.0,
    "legend.fontsize": 8.0,
    "legend.facecolor": "white",
    "lines.linewidth": 1.6,
}
styled = rc_context(STYLE)
"""Decorator of functions that draw in this style: matplotlib reads some settings late."""


class Curve(NamedTuple):
    """One line of a plot over epochs: name, index of its colour, line style, one value per epoch."""

    name: str
    color: int
    dashed: bool
    epochs: list[float]
    values: list[float]


@styled
def plot_curves(axes: Axes, curves: Sequence[Curve], title: str, *, log_scale: bool = True) -> None:
    """Plot one quantity by epoch. The curves have labels; a legend is left to the caller."""
    for curve in curves:
        number = curve.color % len(SERIES)
        axes.plot(
            curve.epochs,
            curve.values,
            color=SERIES[number],
            linestyle="--" if curve.dashed else "-",
            marker=list(MARKERS)[number],
            markersize=4,
            markevery=0.15,  # of the diagonal, however many epochs there are
            alpha=0.85,
            label=curve.name,
        )
    if log_scale:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel="epoch")


@styled
def plot_reliability(axes: Axes, bins: Sequence[ReliabilityBin], title: str) -> None:
    """Plot a reliability diagram: one dot per bin, larger for more images and labelled with their number."""
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
    for confidence, accuracy, count in bins:
        area = 14 + 45 * np.log10(count)
        axes.scatter(confidence, accuracy, s=area, color=SERIES[0], alpha=0.85, linewidths=0, zorder=3)
        axes.annotate(f"{count:,}", (confidence, accuracy), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    axes.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.06), ylim=(0, 1.13))


@styled
def plot_errors_by_size(axes: Axes, errors: Sequence[Sequence[int]], num_images: int) -> None:
    """Plot the errors of ensembles by size: one dot per subset of the models, and the mean as a line. `errors` is the
    result of `subset_errors`."""
    sizes = list(range(1, len(errors) + 1))
    for size, counts in zip(sizes, errors, strict=True):
        axes.scatter(np.full(len(counts), size), counts, s=26, color=SERIES[0], alpha=0.45, linewidths=0)
    axes.plot(sizes, [np.mean(counts) for counts in errors], color=SERIES[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=f"errors on {num_images:,} images", xlabel="models in the ensemble")


@styled
def plot_confusion(axes: Axes, counts: np.ndarray) -> None:
    """Plot counts (K, K) of labels and predictions. Only the errors are shaded."""
    errors = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    names = [str(label) for label in range(len(counts))]
    plot_matrix(axes, errors, [[str(count or "") for count in row] for row in counts], names, names, cmap="Reds")
    axes.set(title=f"{errors.sum():,} errors on {counts.sum():,} images", xlabel="prediction", ylabel="label")


@styled
def plot_disagreement(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """Plot counts (M, M) of images on which two models disagree."""
    plot_matrix(axes, counts, [[str(count) for count in row] for row in counts], names, names)
    axes.tick_params(axis="x", rotation=90)
    axes.set(title="images with different predictions;\non the diagonal, errors")


@styled
def plot_probabilities(axes: Axes, probabilities: np.ndarray, names: Sequence[str]) -> None:
    """Plot probabilities (M, K), one row per model. Those below 0.05 have no number."""
    texts = [[f"{value:.2f}" if value >= 0.05 else "" for value in row] for row in probabilities]
    plot_matrix(axes, probabilities, texts, names, [str(label) for label in range(probabilities.shape[1])], limit=1)
    axes.set(aspect="auto", xlabel="class")


@styled
def plot_matrix(
    axes: Axes,
    shades: np.ndarray,
    texts: Sequence[Sequence[str]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    cmap: str = "Blues",
    limit: float | None = None,
) -> None:
    """Plot shades (R, C) from 0 to `limit` (default: their maximum) with a text in each cell."""
    limit = limit or max(shades.max(), 1)
    axes.imshow(shades, cmap=cmap, vmin=0, vmax=limit)
    for (row, column), shade in np.ndenumerate(shades):
        color = "white" if shade > 0.6 * limit else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(column_names)), column_names, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(row_names)), row_names, fontsize=8, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(False)


@styled
def plot_image(axes: Axes, image: np.ndarray, **properties: Any) -> None:
    """Plot an image (H, W), (H, W, 1) or (H, W, 3), uint8 or float in [0, 1]. Grey images are shown black on white;
    `properties` are those of the Axes."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    axes.set(xticks=[], yticks=[], **properties)


@styled
def plot_missed(
    images: np.ndarray,
    labels: np.ndarray,
    members: np.ndarray,
    ensemble: np.ndarray,
    *,
    rows: np.ndarray,
    label_errors: Collection[int] = (),
) -> Figure:
    """Plot the misclassified images, the most confident prediction first.

    images (N, H, W) or (N, H, W, C) and labels (N,) are the `rows` (N,) of a data set; members (M, N, K) and ensemble
    (N, K) are log-probabilities. Rows in `label_errors` get a frame.
    """
    wrong = misclassified(ensemble, labels)
    shown = wrong[:MAX_MISSED]
    lines = max(1, -(-len(shown) // 8))
    figure = new_figure(9, 1.55 * lines + 0.6)
    title = f"{len(wrong):,} of {len(labels):,} images are misclassified. Above: row, label, prediction, confidence."
    figure.suptitle(title + " Below: prediction of each model.")
    for axes, index in zip(image_grid(figure, lines, 8), shown, strict=False):
        prediction, confidence = ensemble[index].argmax(), np.exp(ensemble[index].max())
        plot_image(axes, images[index])
        axes.set_title(f"{rows[index]}: {labels[index]}, not {prediction} ({confidence:.0%})", fontsize=7, loc="center")
        axes.set_xlabel(textwrap.fill(" ".join(map(str, members[:, index].argmax(-1))), 16), fontsize=8)
        if int(rows[index]) in label_errors:
            axes.spines[:].set(visible=True, color=SERIES[1], linewidth=2)
    return figure


@styled
def panels(count: int = 1, *, width: float = 3.7, height: float = 2.7) -> list[Axes]:
    """Return `count` Axes side by side; width and height of each in inches, by default narrow enough for a phone."""
    figure = new_figure(width * count, height)
    return list(figure.subplots(1, count, squeeze=False)[0])


@styled
def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def image_grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """Return Axes for images, without ticks and frames."""
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return grid


@styled
def save_png(figure: Any, path: Path) -> None:
    """Write a PNG file, which is complete or absent."""
    with atomic_file(path) as draft:
        figure.savefig(draft, format="png", dpi=130)


def inline_svg(figure: Any, description: str) -> str:
    """Return an <svg> element for a web page. `description` is its label for screen readers.

    Colours are the page's CSS variables, see `CSS_VARIABLES`. The same figure always gives the same text.
    """
    file = io.StringIO()
    salt = {"svg.hashsalt": description}  # otherwise identifiers would be random, or the same in two figures of a page
    with rc_context(STYLE | salt):
        figure.savefig(file, format="svg", transparent=True)
    body = file.getvalue().partition("</defs>")[2]  # without the XML header and a style that would apply to the page
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # nothing refers to these, and they repeat from figure to figure
    for color, variable in CSS_VARIABLES.items():
        body = body.replace(color, f"var({variable})")
    width, height = 72 * figure.get_size_inches()
    label = html.escape(description)
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}">{body.strip()}'
