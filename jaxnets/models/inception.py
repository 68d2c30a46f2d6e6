"""Inception, parallel branches of several kernel sizes: Szegedy et al., "Going Deeper with Convolutions", 2015."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Classifier, ConvNorm, head, max_pool


class InceptionModule(nnx.Module):
    """1 x 1, 3 x 3, 5 x 5 and pooled branches, concatenated (fig. 2b): (B, H, W, C) -> (B, H, W, D).

    D is a multiple of 8. Half of its channels come from the 3 x 3 branch, a quarter from the 1 x 1 branch, an eighth
    from each of the others, about as in module 3a of table 1. The reductions have 3/4 as many channels as the 3 x 3
    convolution and as many as the 5 x 5 one.
    """

    def __init__(self, in_channels: int, channels: int, *, rngs: nnx.Rngs, **common):
        part = channels // 8
        layer: Callable[..., ConvNorm] = partial(ConvNorm, rngs=rngs, **common)
        self.branch1 = layer(in_channels, 2 * part, 1)
        self.reduce3, self.branch3 = layer(in_channels, 3 * part, 1), layer(3 * part, 4 * part, 3)
        self.reduce5, self.branch5 = layer(in_channels, part, 1), layer(part, part, 5)
        self.project = layer(in_channels, part, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = (
            self.branch1(x),
            self.branch3(self.reduce3(x)),
            self.branch5(self.reduce5(x)),
            self.project(max_pool(x)),
        )
        return jnp.concatenate(branches, axis=-1)


class Inception(Classifier):
    """A 3 x 3 stem, then two stages of inception modules, each entered by a strided 3 x 3 convolution.

    images (B, H, W, in_channels) float in [0, 1] -> logits (B, num_classes) float32, for H and W of at least 1. The
    last map is 4 * stem_stride times smaller than the images; its means are the features, num_features = 4 * width.

    Args:
        width: channels of the stem, a multiple of 8; the stages have 2 and 4 times as many.
        depth: modules per stage.
        stem_stride: 1 keeps the full resolution in the stem; 2 halves it, for a quarter of the work.
        in_channels, num_classes, dtype, param_dtype, axis_name, rngs: see ResNet.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 2,
        stem_stride: int = 1,
        in_channels: int = 1,
        num_classes: int = 10,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ):
        common: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "axis_name": axis_name, "rngs": rngs}
        layers: list[nnx.Module] = [ConvNorm(in_channels, width, stride=stem_stride, **common)]
        for channels in (2 * width, 4 * width):
            layers.append(ConvNorm(channels // 2, channels, stride=2, **common))
            layers += [InceptionModule(channels, channels, **common) for _ in range(depth)]
        self.layers = nnx.List(layers)
        self.num_features = 4 * width
        self.head = head(self.num_features, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        x = images
        for layer in self.layers:
            x = layer(x)
        return x.mean(axis=(1, 2))
