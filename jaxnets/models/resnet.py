"""Residual networks with pre-activation: He et al., "Identity Mappings in Deep Residual Networks", 2016."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Conv, batch_norm, head


class ResidualBlock(nnx.Module):
    """Norm, ReLU, convolution, twice; the shortcut stays an identity where shapes allow it (fig. 1b, fig. 4e)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
        **dtypes,
    ):
        self.norm1 = batch_norm(in_channels, axis_name=axis_name, rngs=rngs, **dtypes)
        self.conv1 = Conv(in_channels, channels, stride=stride, rngs=rngs, **dtypes)
        self.norm2 = batch_norm(channels, axis_name=axis_name, rngs=rngs, **dtypes)
        self.conv2 = Conv(channels, channels, rngs=rngs, **dtypes)
        same = stride == 1 and in_channels == channels
        self.shortcut = None if same else Conv(in_channels, channels, 1, stride=stride, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        return shortcut + self.conv2(nnx.relu(self.norm2(y)))


class ResNet(nnx.Module):
    """Three stages of residual blocks, each at half the resolution and twice the channels of the one before.

    Args:
        width: channels of the first stage; 64 suits a GPU, 16 a laptop.
        depth: blocks a stage.
        stem_stride: 1 keeps the full resolution in the first stage, 2 halves it at the input: a quarter of the work.
        dtype: of the computation; None follows the images and parameters.
        axis_name: the mapped axis over which batch norm averages its moments, if there is one.
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
        dtypes: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
        common = {"axis_name": axis_name, "rngs": rngs, **dtypes}
        self.stem = Conv(in_channels, width, stride=stem_stride, rngs=rngs, **dtypes)
        blocks, channels = [], width
        for stage in range(3):
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(ResidualBlock(channels, width * 2**stage, stride=stride, **common))
                channels = width * 2**stage
        self.blocks = nnx.List(blocks)
        self.norm = batch_norm(channels, **common)
        self.num_features = channels
        self.head = head(channels, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        """images (B, H, W, C) -> (B, num_features)."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return nnx.relu(self.norm(x)).mean(axis=(1, 2))

    def __call__(self, images: jax.Array) -> jax.Array:
        """images (B, H, W, C) float in [0, 1] -> logits (B, K) float32."""
        return self.head(self.features(images))

    def reset_head(self, num_classes: int, *, rngs: nnx.Rngs | None = None) -> None:
        """A fresh head for `num_classes` classes; the features stay as they are."""
        self.head = head(self.num_features, num_classes, rngs=rngs or nnx.Rngs(0))
