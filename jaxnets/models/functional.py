"""Conversion between NNX modules and plain arrays: the rest of the library sees only dictionaries of arrays."""

from typing import Any

import jax
from flax import nnx

Arrays = dict[str, Any]
"""Nested dictionaries of arrays."""


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Arrays, Arrays]:
    """Return a model's graphdef (static), parameters, and batch-norm statistics."""
    graphdef, params, stats = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def merge(graphdef: nnx.GraphDef, params: Arrays, stats: Arrays) -> nnx.Module:
    """Return the model that `split` divided, in evaluation mode."""
    model = nnx.merge(graphdef, params, stats)
    model.eval()
    return model


def apply(
    graphdef: nnx.GraphDef, params: Arrays, stats: Arrays, images: jax.Array, *, train: bool
) -> tuple[jax.Array, Arrays]:
    """Run a model: images (B, H, W, C) float in [0, 1] -> logits (B, K) float32, statistics.

    In training mode batch norm uses the batch's moments, and the returned statistics are updated by them.
    """
    model = merge(graphdef, params, stats)
    if not train:
        return model(images), stats
    model.train()
    logits = model(images)
    return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def count(params: Arrays) -> int:
    """Return the number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
