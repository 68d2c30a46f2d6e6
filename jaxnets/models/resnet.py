"""ResNet with pre-activation: He et al., "Identity Mappings in Deep Residual Networks", 2016."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Classifier, Conv, batch_norm, head, relu, three_stages


class ResidualBlock(nnx.Module):
    """Twice norm, ReLU and convolution; the shortcut is the identity if shapes allow it (fig. 1b, fig. 4e).

    (B, H, W, in_channels) -> (B, ceil(H / stride), ceil(W / stride), channels).
    """

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
        y = relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        return shortcut + self.conv2(relu(self.norm2(y)))


class ResNet(Classifier):
    """Three stages of residual blocks, each at half the resolution and twice the channels of the one before.

    images (B, H, W, in_channels) float in [0, 1] -> logits (B, num_classes) float32, for H and W of at least 1. The
    last map is 4 * stem_stride times smaller than the images; its means are the features, num_features = 4 * width.

    Args:
        width: channels of the first stage; 64 suits a GPU, 16 a laptop.
        depth: blocks per stage.
        stem_stride: 1 keeps the full resolution in the first stage; 2 halves it, for a quarter of the work.
        in_channels: channels of the images.
        num_classes: number of classes.
        dtype: dtype of the computation; None follows the images and parameters.
        param_dtype: dtype of the parameters.
        axis_name: mapped axis over which batch norm averages its moments, if there is one.
        rngs: source of the initial weights.
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
        self.blocks = three_stages(partial(ResidualBlock, **common), width, depth)
        self.num_features = 4 * width
        self.norm = batch_norm(self.num_features, **common)
        self.head = head(self.num_features, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return relu(self.norm(x)).mean(axis=(1, 2))
