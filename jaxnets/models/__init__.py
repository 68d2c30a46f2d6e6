"""Images -> logits: five convolutional families, importable with flax and jax alone.

>>> from jaxnets.models import create_model
>>> model = create_model("senet", width=16, num_classes=100)
"""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxnets.models.deep_cnn import DeepCNN
from jaxnets.models.inception import Inception
from jaxnets.models.resnet import ResNet
from jaxnets.models.senet import SENet
from jaxnets.models.wide_cnn import WideCNN

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "resnet": ResNet,
    "deep_cnn": DeepCNN,
    "wide_cnn": WideCNN,
    "inception": Inception,
    "senet": SENet,
}


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **sizes: Any) -> nnx.Module:
    """A new model of the family `name`, a key of MODELS; `sizes` are the keyword arguments of its class.

    Raises:
        ValueError: no family has that name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name](rngs=rngs or nnx.Rngs(0), **sizes)
