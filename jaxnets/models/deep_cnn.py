"""DeepCNN, a deep plain network of valid 3 x 3 convolutions: after M3 of An et al., arXiv 2008.10400, 2020."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Classifier, ConvNorm, head


class DeepCNN(Classifier):
    """Valid 3 x 3 convolutions in sequence, each with `growth` more channels than the one before, without pooling.

    images (B, H, W, in_channels) float in [0, 1] -> logits (B, num_classes) float32, for H and W of at least 1; maps
    smaller than 4 x 4 are padded (see `Conv`). The means of the last map are the features, num_features = width +
    growth * (depth - 1); the paper flattens it instead, which fixes the image size.

    Args:
        width: channels of the first convolution.
        growth: channels that each further convolution adds; half of `width` by default, as in the paper.
        depth: number of convolutions; each shrinks the map by two pixels, so 28 x 28 images allow 13 without padding.
        stem_stride: stride of the first convolution; 2 needs a quarter of the work and allows six convolutions.
        in_channels, num_classes, dtype, param_dtype, axis_name, rngs: see ResNet.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        growth: int | None = None,
        depth: int = 10,
        stem_stride: int = 1,
        in_channels: int = 1,
        num_classes: int = 10,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ):
        common: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "axis_name": axis_name, "rngs": rngs}
        growth = width // 2 if growth is None else growth
        channels = [in_channels, *(width + growth * i for i in range(depth))]
        strides = [stem_stride] + [1] * (depth - 1)
        self.layers = nnx.List(
            ConvNorm(before, after, stride=stride, padding="VALID", **common)
            for before, after, stride in zip(channels, channels[1:], strides, strict=False)
        )
        self.num_features = channels[-1]
        self.head = head(self.num_features, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        x = images
        for layer in self.layers:
            x = layer(x)
        return x.mean(axis=(1, 2))
