"""Where networks fail, from their predictions: pictures, and mistakes.csv with what each network says."""

from pathlib import Path

import numpy as np

from experiments.reporting.metrics import Predictions, mean_over_views
from jaxnets.errors import printable
from jaxnets.store.atomic import atomic_file

DISPUTED = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}
"""Rows of MNIST's test file whose label people have rejected: Northcutt et al. 2021, "Pervasive Label Errors in Test
Sets", their published review."""


def draw_failures(
    out: Path, answers: Predictions, weights: np.ndarray, temperature: float | None, images: np.ndarray, *, data: str
) -> None:
    """Leaves confusion, missed, members, disagreement and, where there is a temperature, reliability.png in `out`, and
    mistakes.csv. images (T, H, W, C) uint8, weights (M,); the answers have test labels."""
    from jaxnets.failures import (
        disagreement,
        draw_disagreement,
        draw_members,
        draw_missed,
        draw_reliability,
        subset_errors,
    )
    from jaxnets.inference.ensemble import combine
    from jaxnets.plots import confusion_counts, draw_confusion

    members, labels = mean_over_views(answers.test), np.asarray(answers.test_labels)
    together = combine(members, weights)
    names = short_names(answers.folders)
    counts = confusion_counts(labels, together.argmax(-1), together.shape[-1])
    draw_confusion(out / "confusion.png", counts)
    draw_missed(out / "missed.png", images[..., 0], labels, members, together, DISPUTED if data == "mnist" else set())
    draw_members(out / "members.png", subset_errors(members, labels), len(labels))
    draw_disagreement(out / "disagreement.png", names, disagreement(members, labels))
    if temperature is not None:
        draw_reliability(out / "reliability.png", together, labels, temperature)
    write_mistakes(out / "mistakes.csv", names, labels, members, together)


def short_names(folders: list[Path]) -> list[str]:
    """Each folder's last name, or as much of its path as tells it from the others, in printable characters."""
    parts = [folder.resolve().parts for folder in folders]
    length = next(n for n in range(1, 99) if len({part[-n:] for part in parts}) == len(set(parts)))
    return [printable("/".join(part[-length:])) for part in parts]


def write_mistakes(path: Path, names: list[str], labels: np.ndarray, members: np.ndarray, together: np.ndarray) -> None:
    """A line for each image that the ensemble misses: row, label, answer, its probability, each network's answer. A
    network whose name is one of those columns' stands there as a path, such as ./label."""
    import pandas as pd

    rows = np.flatnonzero(together.argmax(-1) != labels)
    columns = {"row": rows, "label": labels[rows], "answer": together[rows].argmax(-1)}
    columns["probability"] = np.exp(together[rows].max(-1)).round(4)
    told = [f"./{name}" if name in columns else name for name in names]
    columns |= {name: members[number, rows].argmax(-1) for number, name in enumerate(told)}
    with atomic_file(path) as draft:
        pd.DataFrame(columns).to_csv(draft, index=False)
