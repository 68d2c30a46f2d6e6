"""Images -> logits: five convolutional families, importable with flax and jax alone.

>>> from jaxnets.models import create_model, load_pretrained
>>> model = create_model("senet", width=16, num_classes=100)
>>> trained = load_pretrained("senet")
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from jaxnets.models.deep_cnn import DeepCNN
from jaxnets.models.functional import merge, split
from jaxnets.models.inception import Inception
from jaxnets.models.resnet import ResNet
from jaxnets.models.senet import SENet
from jaxnets.models.wide_cnn import WideCNN
from jaxnets.store.weights import PRETRAINED, read_weights, refuse_changed

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "resnet": ResNet,
    "deep_cnn": DeepCNN,
    "wide_cnn": WideCNN,
    "inception": Inception,
    "senet": SENet,
}
LARGEST, DEEPEST = 1_000_000, 50
"""Sizes of a network: a damaged file could ask for one that takes hours to put together."""


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **sizes: Any) -> nnx.Module:
    """A new model of the family `name`, a key of MODELS; `sizes` are the keyword arguments of its class.

    Raises:
        ValueError: no family has that name, or a size is below 1.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    for size, value in sizes.items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{size} is {value}: give at least 1")
    return MODELS[name](rngs=rngs or nnx.Rngs(0), **sizes)


def load_pretrained(name: str, folder: str | Path = PRETRAINED) -> nnx.Module:
    """The trained network of the family `name`: images (B, 28, 28, 1) float in [0, 1], ink 1 -> logits (B, 10).

    Trained on MNIST's training file; `folder`/NAME/result.json says how. In evaluation mode, float32.

    Raises:
        ValueError: no such network is there, its seal.json is missing, or its files are damaged or do not match it.
    """
    folder = Path(folder)
    home = folder / name
    if not (home / "config.json").is_file():
        known = ", ".join(sorted(path.parent.name for path in folder.glob("*/config.json"))) or "none"
        raise ValueError(f"no pretrained network {name!r} in {folder}, which a clone of the repository has: {known}")
    refuse_changed(home, "config.json", "weights.npz")
    try:
        config = json.loads((home / "config.json").read_text())
        family, sizes = config["recipe"]["family"], config["recipe"]["sizes"]
        sizes |= {"in_channels": config["image_shape"][-1], "num_classes": config["num_classes"]}
        if max(sizes.values()) > LARGEST or sizes.get("depth", 1) > DEEPEST:
            raise ValueError(f"no network was trained at {sizes}")
        graphdef, params, stats = split(nnx.eval_shape(lambda: create_model(family, **sizes)))
    except (ValueError, KeyError, TypeError, IndexError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{home / 'config.json'} is damaged: {error!r:.200}") from error
    arrays = read_weights(home / "weights.npz", {"params": params, "stats": stats})
    return merge(graphdef, **arrays)
