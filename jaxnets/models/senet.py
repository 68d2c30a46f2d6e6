"""SENet: Hu et al., "Squeeze-and-Excitation Networks", 2018."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import Classifier, ConvNorm, head, relu, three_stages


class SqueezeExcite(nnx.Module):
    """Multiply each channel by a weight in (0, 1) that depends on the means of all channels (section 3).

    (B, H, W, C) -> (B, H, W, C). The hidden layer has C / reduction units, at least 4.
    """

    def __init__(
        self, channels: int, *, reduction: int = 4, dtype: Any = None, param_dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        hidden = max(channels // reduction, 4)
        self.squeeze = nnx.Linear(channels, hidden, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.excite = nnx.Linear(hidden, channels, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        weight = nnx.sigmoid(self.excite(relu(self.squeeze(x.mean(axis=(1, 2))))))
        return x * weight[:, None, None]


class SEBlock(nnx.Module):
    """Two convolutions with batch norm, squeeze-and-excitation, then the shortcut and ReLU (fig. 3, the basic block).

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
        layer: Callable[..., ConvNorm] = partial(ConvNorm, axis_name=axis_name, rngs=rngs, **dtypes)
        self.conv1 = layer(in_channels, channels, stride=stride)
        self.conv2 = layer(channels, channels, relu=False)
        self.scale = SqueezeExcite(channels, rngs=rngs, **dtypes)
        same = stride == 1 and in_channels == channels
        self.shortcut = None if same else layer(in_channels, channels, 1, stride=stride, relu=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return relu(shortcut + self.scale(self.conv2(self.conv1(x))))


class SENet(Classifier):
    """Three stages of squeeze-and-excitation blocks, each at half the resolution and twice the channels.

    images (B, H, W, in_channels) float in [0, 1] -> logits (B, num_classes) float32, for H and W of at least 1. The
    last map is 4 * stem_stride times smaller than the images; its means are the features, num_features = 4 * width.

    Args:
        width: channels of the first stage; 64 suits a GPU, 16 a laptop.
        depth: blocks per stage.
        stem_stride: 1 keeps the full resolution in the first stage; 2 halves it, for a quarter of the work.
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
        self.stem = ConvNorm(in_channels, width, stride=stem_stride, **common)
        self.blocks = three_stages(partial(SEBlock, **common), width, depth)
        self.num_features = 4 * width
        self.head = head(self.num_features, num_classes, param_dtype=param_dtype, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return x.mean(axis=(1, 2))
