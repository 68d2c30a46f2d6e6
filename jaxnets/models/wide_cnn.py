"""WideCNN: few layers, many channels, large kernels, after M5 of An et al., arXiv 2008.10400, 2020; on width see
Zagoruyko and Komodakis, "Wide Residual Networks", 2016."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Classifier, ConvNorm, head


class WideCNN(Classifier):
    """Valid 5 x 5 convolutions in sequence, each with `width` more channels than the one before, without pooling.

    images (B, H, W, in_channels) float in [0, 1] -> logits (B, num_classes) float32, for H and W of at least 1; maps
    smaller than 6 x 6 are padded (see `Conv`). Its last map's means are the features, num_features = width * depth.

    Args:
        width: channels of the first convolution, and the number that each further one adds.
        depth: number of convolutions; each shrinks the map by four pixels, so 28 x 28 images allow six without padding.
        stem_stride: stride of the first convolution; 2 needs a quarter of the work and allows three convolutions.
        in_channels, num_classes, dtype, param_dtype, axis_name, rngs: see ResNet.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        depth: int = 5,
        stem_stride: int = 1,
        in_channels: int = 1,
        num_classes: int = 10,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ):
        common: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "axis_name": axis_name, "rngs": rngs}
        self.stem = ConvNorm(in_channels, width, 5, stride=stem_stride, padding="VALID", **common)
        self.layers = nnx.List(
            ConvNorm(width * i, width * (i + 1), 5, padding="VALID", **common) for i in range(1, depth)
        )
        self.num_features = width * depth
        self.head = head(self.num_features, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x)
        return x.mean(axis=(1, 2))
