"""Few layers, many channels, large kernels: after M5 of An et al., arXiv 2008.10400, 2020, and the case for width of
Zagoruyko and Komodakis, "Wide Residual Networks", 2016."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import ConvNorm, head


class WideCNN(nnx.Module):
    """Valid 5 x 5 convolutions, `width` channels more each, and no pooling until the end.

    Args:
        width: channels of the first convolution, and those that each further one adds.
        depth: convolutions.
        stem_stride: stride of the first convolution; 2 leaves a quarter of the work, and room for three convolutions.
        dtype, axis_name: see ResNet.
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
        """images (B, H, W, C) -> (B, num_features)."""
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x)
        return x.mean(axis=(1, 2))

    def __call__(self, images: jax.Array) -> jax.Array:
        """images (B, H, W, C) float in [0, 1] -> logits (B, K) float32."""
        return self.head(self.features(images))

    def reset_head(self, num_classes: int, *, rngs: nnx.Rngs | None = None) -> None:
        """A fresh head for `num_classes` classes; the features stay as they are."""
        self.head = head(self.num_features, num_classes, rngs=rngs or nnx.Rngs(0))
