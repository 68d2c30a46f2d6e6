"""The one door between NNX objects and plain arrays: behind it everything is dictionaries of arrays."""

from typing import Any

import jax
from flax import nnx

Arrays = dict[str, Any]


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Arrays, Arrays]:
    """model -> graphdef (static), params, stats (of batch norm): nested dictionaries of arrays."""
    graphdef, params, stats = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def merge(graphdef: nnx.GraphDef, params: Arrays, stats: Arrays) -> nnx.Module:
    """The inverse of `split`: a model in evaluation mode."""
    model = nnx.merge(graphdef, params, stats)
    model.eval()
    return model


def apply(
    graphdef: nnx.GraphDef, params: Arrays, stats: Arrays, images: jax.Array, *, train: bool
) -> tuple[jax.Array, Arrays]:
    """images (B, H, W, C) -> logits (B, K), stats. Evaluation returns the stats it was given."""
    model = merge(graphdef, params, stats)
    if not train:
        return model(images), stats
    model.train()
    logits = model(images)
    return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def count(params: Arrays) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
