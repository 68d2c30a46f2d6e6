"""Test-time augmentation of a trained run: fixed views from the distribution it was trained on, the identity first."""

import numpy as np

from jaxnets.augment import tta_views
from jaxnets.devices import Devices, replicate
from jaxnets.inference.predict import make_predict, require_finite
from jaxnets.runs import Run


def tta(run: Run, images: dict[str, np.ndarray], *, views: int, devices: Devices) -> dict[str, np.ndarray]:
    """images (N, H, W, C) uint8 by name -> log_probs (V, N, K) float32 by the same names. Row 0 is the plain picture.

    The views are always the same for the same strengths and size, so members can be compared view by view (Sato et
    al. 2015). Raises DivergedError if an answer is not finite: no mean is to be taken of it.
    """
    predict = make_predict(run.graphdef, devices)
    side = max(run.config.image_shape[:2])
    warps = tta_views(views, run.config.recipe.training.augmentation, side)
    params, stats, views_there = replicate((run.params, run.stats, [None, *warps[1:]]), devices)
    answer = lambda pictures: np.stack([predict(params, stats, pictures, view) for view in views_there])
    whose = f"{run.config.recipe.family}, seed {run.config.seed}"
    return {name: require_finite(answer(pictures), whose) for name, pictures in images.items()}
