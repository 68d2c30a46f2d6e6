"""One drawing -> what every network says of it, in some milliseconds: two programs for all networks and views."""

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
from jaxnets.models import load_pretrained
from jaxnets.models.functional import apply, split
from jaxnets.normalise import SIDE, normalise
from jaxnets.recipes import FAMILIES, STRONG
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import check
from jaxnets.store.weights import PRETRAINED
from scratch.train import Settings
from scratch.train import predict as predict_scratch
from scratch.weights import load_params

VIEWS = 9
"""Of each drawing, the plain one first."""


class Answer(NamedTuple):
    """What the networks saw, and their probabilities of the K classes."""

    views: np.ndarray  # (V, 28, 28) uint8
    members: np.ndarray  # (M, V, K)
    scratch: np.ndarray  # (K,), of the plain picture


class Predictor:
    """ink (H, W) of any size -> Answer. Raises ValueError where there is no ink."""

    def __init__(self, models: Mapping[str, nnx.Module], scratch: tuple[list, Settings]):
        self.names = list(models)
        self.scratch = scratch
        graphdefs, *arrays = zip(*map(split, models.values()), strict=True)
        self.weights = jax.device_put(list(zip(*arrays, strict=True)))
        self.warps = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tta_views(VIEWS, STRONG, SIDE))

        def look(image: jax.Array, warps: Warp) -> jax.Array:
            return jax.vmap(warp_image, (None, 0))(image.astype(jnp.float32)[..., None] / 255, warps)

        def answer(weights: list, views: jax.Array) -> jax.Array:
            logits = [
                apply(graphdef, params, stats, views, train=False)[0]
                for graphdef, (params, stats) in zip(graphdefs, weights, strict=True)
            ]
            return jax.nn.softmax(jnp.stack(logits))

        # Two programs, as in jaxnets.inference.predict: in one, XLA's CPU backend computes the warps several times.
        self.look, self.answer = jax.jit(look), jax.jit(answer)

    def __call__(self, ink: np.ndarray) -> Answer:
        image = normalise(ink)
        views = self.look(image, self.warps)
        members = self.answer(self.weights, views)
        params, settings = self.scratch
        scratch = np.exp(predict_scratch(params, image[None].astype(np.float32) / 255, settings)[0])
        return Answer(np.rint(np.asarray(views)[..., 0] * 255).astype(np.uint8), np.asarray(members), scratch)

    def milliseconds(self, count: int) -> list[float]:
        """How long each of `count` predictions takes, in rising order; the first one ever compiles."""
        ink = np.zeros((SIDE, SIDE), np.uint8)
        ink[4:24, 12:15] = 255
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            self(ink)
            times.append(1000 * (time.perf_counter() - begin))
        return sorted(times)


def load_scratch(folder: Path) -> tuple[list, Settings]:
    """Its parameters and its settings; InputError where they are not as they were published."""
    check(folder)
    settings = read_json(folder / "settings.json")
    return load_params(folder / "weights.npz"), Settings(**settings | {"widths": tuple(settings["widths"])})


def load_all(folder: Path = PRETRAINED) -> Predictor:
    """The networks that come with the repository; InputError where one is missing, or not as it was published."""
    try:
        models = {name: load_pretrained(name, folder) for name in FAMILIES}
        for name in models:
            check(folder / name)
        return Predictor(models, load_scratch(folder / "scratch"))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(folder, str(error), "fetch the networks again: git checkout -- checkpoints") from error
