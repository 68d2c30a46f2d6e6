"""Pictures of where an ensemble fails: what it misses, how sure it is, what more members bring, where they differ."""

import itertools
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxnets.inference.calibrate import apply_temperature, calibration_error
from jaxnets.inference.ensemble import combine
from jaxnets.plots import grid, save

PANELS = 80
"""Of a picture of mistakes; there is no room for more."""


def draw_missed(
    path: Path, images: np.ndarray, labels: np.ndarray, members: np.ndarray, answer: np.ndarray, disputed: set[int]
) -> None:
    """Every image (T, H, W) whose label (T,) the ensemble `answer` (T, K) misses, the surest first: its row, its label
    and the answer, and what each of the members (M, T, K) says. Those in `disputed` have a frame."""
    answers, sureness = answer.argmax(-1), np.exp(answer.max(-1))
    wrong = np.flatnonzero(answers != labels)
    shown = wrong[np.argsort(-sureness[wrong], kind="stable")][:PANELS]
    rows = max(1, -(-len(shown) // 8))
    figure = Figure(figsize=(9, 1.55 * rows + 0.6), layout="constrained")
    title = f"{len(wrong)} of {len(labels):,} missed: row, label and answer; below, each network's answer"
    figure.suptitle(title + ("; framed: people doubt the label" if disputed & set(wrong.tolist()) else ""), fontsize=10)
    for axes, row in zip(grid(figure, rows, 8), shown, strict=False):
        axes.imshow(images[row], cmap="gray_r")
        axes.set_title(f"{row}: {labels[row]}, not {answers[row]} ({sureness[row]:.0%})", fontsize=7)
        axes.set_xlabel(" ".join(map(str, members[:, row].argmax(-1))), fontsize=8)
        if int(row) in disputed:
            axes.spines[:].set(visible=True, color="tab:orange", linewidth=2)
    save(figure, path)


def draw_reliability(path: Path, log_probs: np.ndarray, labels: np.ndarray, temperature: float) -> None:
    """Accuracy by confidence, as it is and after the temperature: log_probs (N, K), labels (N,). Guo et al. 2017,
    figure 4; a dot stands for a tenth of confidence, its area for how many images are there."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    cases = {
        "as the networks say": log_probs,
        f"temperature {temperature:.2f}": apply_temperature(log_probs, temperature),
    }
    for axes, (name, answer) in zip(figure.subplots(1, 2, sharey=True), cases.items(), strict=True):
        sureness, right = np.exp(answer.max(-1)), answer.argmax(-1) == labels
        places = np.minimum((sureness * 10).astype(int), 9)
        for place in np.unique(places):
            inside = places == place
            axes.scatter(
                sureness[inside].mean(),
                right[inside].mean(),
                s=12 + 40 * np.log10(inside.sum()),
                color="tab:blue",
                alpha=0.8,
            )
            axes.annotate(
                f"{inside.sum():,}",
                (sureness[inside].mean(), right[inside].mean()),
                (0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        axes.plot([0, 1], [0, 1], color="gray", linewidth=1, linestyle=":")
        axes.set(xlabel="confidence, mean of the images of a tenth", xlim=(0, 1.05), ylim=(0, 1.1))
        axes.set_title(f"{name}: gap {calibration_error(answer, labels, bins=10):.2%}", fontsize=10)
    figure.axes[0].set_ylabel("share of right answers; beside: images")
    save(figure, path)


def subset_errors(members: np.ndarray, labels: np.ndarray, *, most: int = 60) -> list[list[int]]:
    """members (M, T, K), labels (T,) -> for 1 to M networks, the errors of each choice of so many, or of `most` drawn
    ones."""
    rng = np.random.default_rng(0)
    errors = []
    for size in range(1, len(members) + 1):
        if math.comb(len(members), size) <= most:
            subsets = list(itertools.combinations(range(len(members)), size))
        else:  # there may be millions
            subsets = [tuple(rng.choice(len(members), size, replace=False)) for _ in range(most)]
        errors.append([int((combine(members[list(subset)]).argmax(-1) != labels).sum()) for subset in subsets])
    return errors


def draw_members(path: Path, errors: list[list[int]], images: int) -> None:
    """Errors among so many images against the number of networks: a dot a choice of them, their mean a line."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    sizes = range(1, len(errors) + 1)
    for size, counts in zip(sizes, errors, strict=True):
        axes.scatter(np.full(len(counts), size), counts, s=22, color="tab:blue", alpha=0.4, linewidths=0)
    axes.plot(sizes, [np.mean(counts) for counts in errors], color="tab:blue", label="mean")
    axes.set(xlabel="networks averaged; a dot each choice", ylabel=f"errors of {images:,}", xticks=list(sizes))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def disagreement(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """members (M, T, K), labels (T,) -> counts (M, M): how many images two members answer differently; on the diagonal,
    how many each has wrong."""
    answers = members.argmax(-1)
    counts = (answers[:, None] != answers[None]).sum(-1)
    np.fill_diagonal(counts, (answers != labels).sum(-1))
    return counts


def draw_disagreement(path: Path, names: list[str], counts: np.ndarray) -> None:
    side = 2.4 + 0.55 * len(names)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if count > 0.6 * counts.max() else "black"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=color, weight=weight)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_title("Images answered differently;\non the diagonal, errors", fontsize=10)
    save(figure, path)
