"""Predicts one drawing with all pretrained models in a few milliseconds: two programs for all models and views."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.augment import Warp, tta_views, warp_image
from jaxnets.errors import InputError
from jaxnets.inference.calibrate import apply_temperature
from jaxnets.models import load_pretrained
from jaxnets.models.functional import apply, split
from jaxnets.normalise import SIDE, normalise
from jaxnets.recipes import FAMILIES, WRITERS
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import check_manifest
from jaxnets.store.weights import PRETRAINED
from scratch.train import MLPConfig
from scratch.train import predict as predict_scratch
from scratch.weights import load_params

VIEWS = 9
"""Number of views of each drawing; the first one is not augmented."""


class Calibration(NamedTuple):
    """How the ensemble's confidence is scaled, and below which confidence its prediction is uncertain."""

    temperature: float = 1.0
    threshold: float = 0.0


class Prediction(NamedTuple):
    """The views of a drawing, and the probabilities of M convolutional models and of the NumPy model."""

    views: np.ndarray  # (V, 28, 28) uint8
    members: np.ndarray  # (M, V, K)
    ensemble: np.ndarray  # (K,), calibrated, for the first view
    scratch: np.ndarray  # (K,), for the first view


class Predictor:
    """Callable: ink (H, W) uint8 of any size -> Prediction. Raises ValueError if there is no ink."""

    def __init__(
        self,
        models: Mapping[str, nnx.Module],
        scratch: tuple[list, MLPConfig],
        calibration: Calibration = Calibration(),  # noqa: B008  # immutable
    ):
        self.names = list(models)
        self.calibration = calibration
        self.scratch = scratch
        graphdefs, *arrays = zip(*map(split, models.values()), strict=True)
        self.weights = jax.device_put(list(zip(*arrays, strict=True)))
        self.warps = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tta_views(VIEWS, WRITERS, SIDE))

        def make_views(image: jax.Array, warps: Warp) -> jax.Array:
            return jax.vmap(warp_image, (None, 0))(image.astype(jnp.float32)[..., None] / 255, warps)

        def classify(weights: list, views: jax.Array) -> jax.Array:
            logits = [
                apply(graphdef, params, stats, views, train=False)[0]
                for graphdef, (params, stats) in zip(graphdefs, weights, strict=True)
            ]
            return jax.nn.softmax(jnp.stack(logits))

        # Two programs, as in jaxnets.inference.predict: in one, XLA's CPU backend computes the warps several times.
        self.make_views, self.classify = jax.jit(make_views), jax.jit(classify)

    def __call__(self, ink: np.ndarray) -> Prediction:
        image = normalise(ink)
        views = self.make_views(image, self.warps)
        members = np.asarray(self.classify(self.weights, views))
        mean = np.maximum(members[:, 0].mean(axis=0), np.finfo(np.float32).tiny)  # 0 has no logarithm
        ensemble = np.exp(apply_temperature(np.log(mean), self.calibration.temperature))
        params, settings = self.scratch
        scratch = np.exp(predict_scratch(params, image[None].astype(np.float32) / 255, settings)[0])
        return Prediction(np.rint(np.asarray(views)[..., 0] * 255).astype(np.uint8), members, ensemble, scratch)

    def milliseconds(self, count: int) -> list[float]:
        """Return the times of `count` predictions in ascending order. The first call also compiles."""
        ink = np.zeros((SIDE, SIDE), np.uint8)
        ink[4:24, 12:15] = 255
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            self(ink)
            times.append(1000 * (time.perf_counter() - begin))
        return sorted(times)


def load_scratch(folder: Path) -> tuple[list, MLPConfig]:
    """Return parameters and settings of the published NumPy model; raise InputError if its files were changed."""
    check_manifest(folder)
    settings = read_json(folder / "settings.json")
    return load_params(folder / "weights.npz"), MLPConfig(**settings | {"widths": tuple(settings["widths"])})


def load_calibration(folder: Path) -> Calibration:
    """Return the calibration of the published models, from the report of their evaluation; none if there is none."""
    report = folder / "evaluation" / "report.json"
    ensemble = read_json(report)["ensemble"] if report.is_file() else {}
    if ensemble.get("temperature") is None or ensemble.get("confidence_threshold") is None:
        return Calibration()
    return Calibration(ensemble["temperature"], ensemble["confidence_threshold"])


def load_all(folder: Path = PRETRAINED) -> Predictor:
    """Load the pretrained models; raise InputError if there are none, or if their files were changed."""
    try:
        published = [name for name in FAMILIES if (folder / name).is_dir()] or FAMILIES
        models = {name: load_pretrained(name, folder) for name in published}
        return Predictor(models, load_scratch(folder / "scratch"), load_calibration(folder))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(folder, str(error), "restore the models: git checkout -- checkpoints") from error
