"""Test-time augmentation: predictions of a trained model on fixed views of each image, the image itself first."""

import numpy as np

from jaxnets.augment import tta_views
from jaxnets.devices import Devices, replicate
from jaxnets.inference.predict import make_predict, require_finite
from jaxnets.runs import Run


def tta(run: Run, images: dict[str, np.ndarray], *, views: int, devices: Devices) -> dict[str, np.ndarray]:
    """Predict each set of images (N, H, W, C) uint8 -> log_probs (V, N, K) float32 by the same names.

    View 0 is the image itself. The others are drawn from the run's training augmentation, always the same ones for the
    same augmentation and image size, so members can be combined view by view (Sato et al. 2015). Raises DivergedError
    if a prediction is not finite.
    """
    predict = make_predict(run.graphdef, devices)
    side = max(run.config.image_shape[:2])
    warps = tta_views(views, run.config.recipe.training.augmentation, side)
    params, stats, warps = replicate((run.params, run.stats, [None, *warps[1:]]), devices)
    name_of_run = f"{run.config.recipe.family}, seed {run.config.seed}"
    log_probs = {
        name: np.stack([predict(params, stats, batch, warp) for warp in warps]) for name, batch in images.items()
    }
    return {name: require_finite(values, name_of_run) for name, values in log_probs.items()}
