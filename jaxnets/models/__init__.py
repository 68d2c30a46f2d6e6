"""Models: five convolutional families, images -> logits. They need JAX, Flax and NumPy only.

>>> from jaxnets.models import create_model, load_pretrained
>>> model = create_model("senet", width=16, num_classes=100)
>>> trained = load_pretrained("senet")
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from jaxnets.config import ModelRecipe
from jaxnets.errors import InputError, short_message
from jaxnets.models.deep_cnn import DeepCNN
from jaxnets.models.functional import merge, split
from jaxnets.models.inception import Inception
from jaxnets.models.resnet import ResNet
from jaxnets.models.senet import SENet
from jaxnets.models.wide_cnn import WideCNN
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import check_manifest
from jaxnets.store.weights import PRETRAINED, REFETCH_HINT, read_weights

__all__ = ["MODELS", "DeepCNN", "Inception", "ResNet", "SENet", "WideCNN", "create_model", "load_pretrained"]

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "resnet": ResNet,
    "deep_cnn": DeepCNN,
    "wide_cnn": WideCNN,
    "inception": Inception,
    "senet": SENet,
}
"""The families by name; a new one is added here, and to the tables in `recipes` of the presets that train it."""


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **sizes: Any) -> nnx.Module:
    """Return an untrained model of the family `name`, a key of MODELS.

    Args:
        name: the family.
        rngs: source of the initial weights; seed 0 by default.
        sizes: other keyword arguments of the family's class.

    Raises:
        ValueError: no family has that name, or a size is below 1.
        TypeError: the family's class has no such argument.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    for size, value in sizes.items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{size} is {value}: give at least 1")
    return MODELS[name](rngs=rngs or nnx.Rngs(0), **sizes)


def load_pretrained(name: str, folder: str | Path = PRETRAINED) -> nnx.Module:
    """Return a pretrained model in evaluation mode: images (B, 28, 28, 1) float in [0, 1], ink 1 -> logits (B, 10).

    It computes in float32 and was trained on MNIST's training file; `folder`/NAME/result.json has its accuracy.

    Args:
        name: the family, a key of MODELS.
        folder: holds one folder per model; by default this repository's.

    Raises:
        InputError (a ValueError): there is no such model, or its files are damaged or do not match its manifest.
    """
    folder = Path(folder)
    home = folder / name
    path = home / "config.json"
    if not path.is_file():
        known = ", ".join(sorted(other.parent.name for other in folder.glob("*/config.json"))) or "none"
        problem = f"has no pretrained model {name!r}; it has {known}"
        raise InputError(folder, problem, "restore the folder from the repository, or name another model")
    check_manifest(home)
    config = read_json(path, REFETCH_HINT)
    try:
        recipe = ModelRecipe(family=config["recipe"]["family"], sizes=config["recipe"]["sizes"])  # checks the sizes
        sizes = {**recipe.sizes, "in_channels": config["image_shape"][-1], "num_classes": config["num_classes"]}
        graphdef, params, stats = split(nnx.eval_shape(lambda: create_model(recipe.family, **sizes)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise InputError(path, f"describes no model ({short_message(error)})", REFETCH_HINT) from error
    return merge(graphdef, **read_weights(home / "weights.npz", {"params": params, "stats": stats}))
