"""Draws how one image travels: a finished pipeline's most disputed test image, its views, every network's opinion, and
the answer. Test labels are not read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.console import say
from experiments.options import Job, Options, open_job, run
from experiments.predict import read_log_probs, trained


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Options):
    to: Path = Path("experiments/figures")
    """Folder of the pictures."""


def disputed_image(probabilities: np.ndarray) -> int:
    """probabilities (M, N, K) -> the row where the networks' mean is surest although not all of them agree."""
    mean = probabilities.mean(axis=0)
    agree = (probabilities.argmax(axis=-1) == mean.argmax(axis=-1)).all(axis=0)
    return int(np.where(agree, 0, mean.max(axis=-1)).argmax())


def draw_disputed(job: Job, folders: list[Path], path: Path) -> None:
    from jaxnets.augment import fixed_views, warp_image
    from jaxnets.inference.ensemble import combine
    from jaxnets.report import draw_answer

    members = np.stack([np.exp(combine(views)) for views in read_log_probs(folders, "test")])
    row = disputed_image(members)
    image = job.digits.x_test[row].astype(np.float32) / 255
    strength = job.preset.recipes[0].training.augmentation
    warps = fixed_views(job.preset.views, strength, max(image.shape[:2]))
    views = np.stack([warp_image(image, warp) for warp in warps]).mean(axis=-1)
    draw_answer(path, views, [folder.name for folder in folders], members[:, row], members[:, row].mean(axis=0))


def main(options: FigureOptions) -> None:
    job = open_job(options)
    path = options.to / "answer.png"
    draw_disputed(job, trained(job), path)
    say(f"{path}")


if __name__ == "__main__":
    run(main, FigureOptions)
