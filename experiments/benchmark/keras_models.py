"""The five families in Keras 3, for the benchmark: the same layers as in jaxnets.models, named after their path."""

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers
from keras.ops import relu

from jaxnets.models.functional import Arrays


def conv(
    x: KerasTensor, name: str, channels: int, size: int = 3, *, stride: int = 1, padding: str = "same"
) -> KerasTensor:
    if stride > 1 and size > 1 and padding == "same":  # Keras would pad by the map's size: as much or more after it.
        x = layers.ZeroPadding2D((((size - 1) // 2, size // 2),) * 2)(x)
        padding = "valid"
    return layers.Conv2D(channels, size, stride, padding, use_bias=False, name=name)(x)


def norm(x: KerasTensor, name: str) -> KerasTensor:
    return layers.BatchNormalization(momentum=0.95, epsilon=1e-5, name=name)(x)


def conv_norm(x: KerasTensor, name: str, *shape: int, activate: bool = True, **options: Any) -> KerasTensor:
    """`shape`: channels and, unless it is 3, the size of the kernel."""
    x = norm(conv(x, f"{name}_conv", *shape, **options), f"{name}_norm")
    return relu(x) if activate else x


def residual_block(x: KerasTensor, name: str, channels: int, stride: int) -> KerasTensor:
    y = relu(norm(x, f"{name}_norm1"))
    same = stride == 1 and x.shape[-1] == channels
    shortcut = x if same else conv(y, f"{name}_shortcut", channels, 1, stride=stride)
    y = conv(y, f"{name}_conv1", channels, stride=stride)
    return shortcut + conv(relu(norm(y, f"{name}_norm2")), f"{name}_conv2", channels)


def se_block(x: KerasTensor, name: str, channels: int, stride: int) -> KerasTensor:
    same = stride == 1 and x.shape[-1] == channels
    shortcut = x if same else conv_norm(x, f"{name}_shortcut", channels, 1, stride=stride, activate=False)
    y = conv_norm(x, f"{name}_conv1", channels, stride=stride)
    y = conv_norm(y, f"{name}_conv2", channels, activate=False)
    weight = layers.GlobalAveragePooling2D()(y)
    weight = layers.Dense(max(channels // 4, 4), "relu", name=f"{name}_scale_squeeze")(weight)
    weight = layers.Dense(channels, "sigmoid", name=f"{name}_scale_excite")(weight)
    return relu(shortcut + y * weight[:, None, None])


def stages(x: KerasTensor, block: Any, width: int, depth: int) -> KerasTensor:
    for place in range(3 * depth):
        stage = place // depth
        x = block(x, f"blocks_{place}", width * 2**stage, 2 if stage > 0 and place % depth == 0 else 1)
    return x


def resnet(x: KerasTensor, *, width: int = 64, depth: int = 2, stem_stride: int = 1) -> KerasTensor:
    x = conv(x, "stem", width, stride=stem_stride)
    return relu(norm(stages(x, residual_block, width, depth), "norm"))


def senet(x: KerasTensor, *, width: int = 64, depth: int = 2, stem_stride: int = 1) -> KerasTensor:
    return stages(conv_norm(x, "stem", width, stride=stem_stride), se_block, width, depth)


def deep_cnn(
    x: KerasTensor, *, width: int = 32, growth: int | None = None, depth: int = 10, stem_stride: int = 1
) -> KerasTensor:
    growth = width // 2 if growth is None else growth
    for i in range(depth):
        stride = stem_stride if i == 0 else 1
        x = conv_norm(x, f"layers_{i}", width + growth * i, stride=stride, padding="valid")
    return x


def wide_cnn(x: KerasTensor, *, width: int = 32, depth: int = 5, stem_stride: int = 1) -> KerasTensor:
    x = conv_norm(x, "stem", width, 5, stride=stem_stride, padding="valid")
    for i in range(1, depth):
        x = conv_norm(x, f"layers_{i - 1}", width * (i + 1), 5, padding="valid")
    return x


def inception_module(x: KerasTensor, name: str, channels: int) -> KerasTensor:
    part = channels // 8
    pooled = layers.MaxPooling2D(3, 1, "same")(x)
    branches = (
        conv_norm(x, f"{name}_branch1", 2 * part, 1),
        conv_norm(conv_norm(x, f"{name}_reduce3", 3 * part, 1), f"{name}_branch3", 4 * part, 3),
        conv_norm(conv_norm(x, f"{name}_reduce5", part, 1), f"{name}_branch5", part, 5),
        conv_norm(pooled, f"{name}_project", part, 1),
    )
    return layers.Concatenate()(branches)


def inception(x: KerasTensor, *, width: int = 64, depth: int = 2, stem_stride: int = 1) -> KerasTensor:
    x = conv_norm(x, "layers_0", width, stride=stem_stride)
    for stage, channels in enumerate((2 * width, 4 * width)):
        first = 1 + stage * (depth + 1)
        x = conv_norm(x, f"layers_{first}", channels, stride=2)
        for i in range(first + 1, first + 1 + depth):
            x = inception_module(x, f"layers_{i}", channels)
    return x


FEATURES = {"resnet": resnet, "deep_cnn": deep_cnn, "wide_cnn": wide_cnn, "inception": inception, "senet": senet}


def build(family: str, shape: tuple[int, ...], **sizes: Any) -> keras.Model:
    """images (B, *shape) -> logits (B, 10): layers, a mean over the map, a linear head."""
    images = keras.Input(shape)
    features = layers.GlobalAveragePooling2D()(FEATURES[family](images, **sizes))
    return keras.Model(images, layers.Dense(10, name="head")(features), name=family)


NORM_NAMES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def load(model: keras.Model, params: Arrays, stats: Arrays) -> None:
    """Gives the model the weights of a network of jaxnets; ValueError if any is missing, left over or misshapen."""
    values = {}

    def visit(tree: Any, path: tuple[str, ...]) -> None:
        if not isinstance(tree, dict):
            values["_".join(path[:-1]), path[-1]] = np.asarray(tree)
            return
        for name, branch in tree.items():
            visit(branch, (*path, str(name)))

    visit(params, ())
    visit(stats, ())
    # Keras's own names for the weights of a batch norm, whose bias alone shares its name with a dense layer's.
    norms = {layer for layer, weight in values if weight == "scale"}
    values = {
        (layer, NORM_NAMES.get(key, key) if layer in norms else key): value for (layer, key), value in values.items()
    }
    weights = {(layer.name, weight.name): weight for layer in model.layers for weight in layer.weights}
    for layer, key in sorted(values.keys() | weights.keys()):
        here, there = (tuple(tree[layer, key].shape) if (layer, key) in tree else None for tree in (weights, values))
        if here != there:
            raise ValueError(f"{key} of layer {layer}: shape {here} in {model.name}, {there} in the weights given")
    for name, weight in weights.items():
        weight.assign(values[name])
