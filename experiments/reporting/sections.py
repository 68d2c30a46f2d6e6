"""What a page says of networks' answers: the table of confusions, missed images, sureness, and what many together
bring. Arrays in, what a template shows out."""

from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.error_analysis import DISPUTED
from experiments.reporting.page import percent, png
from experiments.reporting.svg import draw_members, draw_reliability
from jaxnets import failures
from jaxnets.inference.calibrate import apply_temperature, calibration_error
from jaxnets.plots import confusion_counts

CARDS = 60
"""Missed images on a page; a network that has learnt nothing misses thousands."""


class Judged(NamedTuple):
    """Images with labels that no network was trained on, and what M networks and all together say of them."""

    kind: str  # "test", or "validation" where the test images have no labels
    data: str
    rows: np.ndarray  # (N,), their places in the data's test or training images
    images: np.ndarray  # (N, H, W, C)
    labels: np.ndarray  # (N,)
    names: list[str]
    members: np.ndarray  # (M, N, K) log-probabilities
    together: np.ndarray  # (N, K)

    def wrong(self) -> np.ndarray:
        return np.flatnonzero(self.together.argmax(-1) != self.labels)


def headline(judged: Judged) -> dict[str, Any]:
    errors, images = len(judged.wrong()), len(judged.labels)
    return {"kind": judged.kind, "errors": errors, "images": images, "accuracy": 1 - errors / images}


def confusion(judged: Judged) -> dict[str, Any]:
    """A row a label, a cell an answer: how often, and how strongly to shade it, the diagonal not at all."""
    counts = confusion_counts(judged.labels, judged.together.argmax(-1), judged.together.shape[-1])
    return shaded(list(map(str, range(len(counts)))), counts, np.where(np.eye(len(counts), dtype=bool), 0, counts))


def disagreement(judged: Judged) -> dict[str, Any]:
    counts = failures.disagreement(judged.members, judged.labels)
    return shaded(judged.names, counts, counts)


def shaded(names: list[str], counts: np.ndarray, shades: np.ndarray) -> dict[str, Any]:
    strength = shades / max(shades.max(), 1)
    cells = [
        [{"count": int(count), "shade": f"{shade:.2f}"} for count, shade in zip(*row, strict=True)]
        for row in zip(counts, strength, strict=True)
    ]
    return {"names": names, "rows": list(zip(names, cells, strict=True))}


def missed(judged: Judged) -> list[dict[str, Any]]:
    """A card for each image that all together miss, the surest first, with what every network says."""
    sureness, wrong = np.exp(judged.together.max(-1)), judged.wrong()
    shown = wrong[np.argsort(-sureness[wrong], kind="stable")][:CARDS]
    disputed = DISPUTED if (judged.data, judged.kind) == ("mnist", "test") else set()
    return [
        card(judged, place) | {"label": int(judged.labels[place]), "disputed": int(judged.rows[place]) in disputed}
        for place in map(int, shown)
    ]


def card(judged: Judged, place: int) -> dict[str, Any]:
    return {
        "row": int(judged.rows[place]),
        "image": png(judged.images[place]),
        **opinion(judged.together[place]),
        "members": [
            {"name": name, **opinion(answer)}
            for name, answer in zip(judged.names, judged.members[:, place], strict=True)
        ],
    }


def opinion(log_probs: np.ndarray) -> dict[str, Any]:
    """log_probs (K,) -> the likeliest class and its probability."""
    return {"answer": int(log_probs.argmax()), "sureness": float(np.exp(log_probs.max()))}


def reliability(judged: Judged, temperature: float | None) -> list[dict[str, Any]]:
    """A chart of the answers as they are, and one after the temperature, if there is any."""
    cases = {"as they are": judged.together}
    if temperature is not None:
        cases[f"after temperature {temperature:.2f}"] = apply_temperature(judged.together, temperature)
    charts = []
    for name, answer in cases.items():
        sureness, right = np.exp(answer.max(-1)), answer.argmax(-1) == judged.labels
        gap = calibration_error(answer, judged.labels, bins=10)
        says = f"Right answers by sureness, {name}: {percent(right.mean())} right, {percent(sureness.mean())} sure"
        charts.append({"svg": draw_reliability(sureness, right, name, says), "gap": gap, "name": name})
    return charts


def by_number(judged: Judged) -> dict[str, Any] | None:
    """Errors of one network alone, of two, and so on; None where there is but one."""
    if len(judged.names) == 1:
        return None
    errors = failures.subset_errors(judged.members, judged.labels)
    means = [f"{np.mean(counts):.1f} of {size}" for size, counts in enumerate(errors, start=1)]
    says = f"Mean errors by number of networks averaged: {', '.join(means)}"
    svg = draw_members(errors, len(judged.labels), says)
    return {"svg": svg, "alone": float(np.mean(errors[0])), "all": errors[-1][0]}


def previews(pictures: np.ndarray, labels: np.ndarray, warped: np.ndarray) -> list[dict[str, Any]]:
    """pictures (P, H, W, C), labels (P,), warped (P, 8, H, W, C) -> a row of images each."""
    return [
        {"label": int(label), "image": png(image), "warps": [png(warp) for warp in warps]}
        for image, label, warps in zip(pictures, labels, warped, strict=True)
    ]


def first_of_each(labels: np.ndarray, count: int) -> list[int]:
    """The first rows of the first `count` classes."""
    return [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:count]]
