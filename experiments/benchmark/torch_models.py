"""The five families in PyTorch, for the benchmark: the same layers under the same names as in jaxnets.models."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from jaxnets.models.functional import Arrays


def conv(before: int, channels: int, size: int = 3, *, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(before, channels, size, stride, size // 2 if padding is None else padding, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=0.05)


class ConvNorm(nn.Module):
    def __init__(self, before: int, channels: int, size: int = 3, *, relu: bool = True, **options: Any):
        super().__init__()
        self.conv, self.norm, self.relu = conv(before, channels, size, **options), norm(channels), relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return functional.relu(x, inplace=True) if self.relu else x


class Network(nn.Module, ABC):
    """`features`, a mean over the map, a linear head."""

    head: nn.Linear

    @abstractmethod
    def features(self, x: torch.Tensor) -> torch.Tensor: ...

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


class ResidualBlock(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = norm(before), conv(before, channels, stride=stride)
        self.norm2, self.conv2 = norm(channels), conv(channels, channels)
        same = stride == 1 and before == channels
        self.shortcut = None if same else conv(before, channels, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return shortcut + self.conv2(functional.relu(self.norm2(self.conv1(y))))


class SEBlock(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = ConvNorm(before, channels, stride=stride)
        self.conv2 = ConvNorm(channels, channels, relu=False)
        hidden = max(channels // 4, 4)
        self.scale = nn.ModuleDict({"squeeze": nn.Linear(channels, hidden), "excite": nn.Linear(hidden, channels)})
        same = stride == 1 and before == channels
        self.shortcut = None if same else ConvNorm(before, channels, 1, stride=stride, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y = self.conv2(self.conv1(x))
        weight = torch.sigmoid(self.scale["excite"](functional.relu(self.scale["squeeze"](y.mean((2, 3))))))
        return functional.relu(shortcut + y * weight[:, :, None, None])


def stages(block: Any, width: int, depth: int) -> nn.ModuleList:
    blocks, channels = nn.ModuleList(), width
    for stage in range(3):
        for place in range(depth):
            blocks.append(block(channels, width * 2**stage, 2 if stage > 0 and place == 0 else 1))
            channels = width * 2**stage
    return blocks


class ResNet(Network):
    def __init__(self, *, width: int = 64, depth: int = 2, stem_stride: int = 1):
        super().__init__()
        self.stem = conv(1, width, stride=stem_stride)
        self.blocks = stages(ResidualBlock, width, depth)
        self.norm, self.head = norm(4 * width), nn.Linear(4 * width, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return functional.relu(self.norm(x))


class SENet(Network):
    def __init__(self, *, width: int = 64, depth: int = 2, stem_stride: int = 1):
        super().__init__()
        self.stem = ConvNorm(1, width, stride=stem_stride)
        self.blocks, self.head = stages(SEBlock, width, depth), nn.Linear(4 * width, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


class DeepCNN(Network):
    def __init__(self, *, width: int = 32, growth: int | None = None, depth: int = 10, stem_stride: int = 1):
        super().__init__()
        growth = width // 2 if growth is None else growth
        channels = [1, *(width + growth * i for i in range(depth))]
        strides = [stem_stride] + [1] * (depth - 1)
        self.layers = nn.ModuleList(
            ConvNorm(channels[i], channels[i + 1], stride=strides[i], padding=0) for i in range(depth)
        )
        self.head = nn.Linear(channels[-1], 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class WideCNN(Network):
    def __init__(self, *, width: int = 32, depth: int = 5, stem_stride: int = 1):
        super().__init__()
        self.stem = ConvNorm(1, width, 5, stride=stem_stride, padding=0)
        self.layers = nn.ModuleList(ConvNorm(width * i, width * (i + 1), 5, padding=0) for i in range(1, depth))
        self.head = nn.Linear(width * depth, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return x


class InceptionModule(nn.Module):
    def __init__(self, before: int, channels: int):
        super().__init__()
        part = channels // 8
        self.branch1 = ConvNorm(before, 2 * part, 1)
        self.reduce3, self.branch3 = ConvNorm(before, 3 * part, 1), ConvNorm(3 * part, 4 * part, 3)
        self.reduce5, self.branch5 = ConvNorm(before, part, 1), ConvNorm(part, part, 5)
        self.project = ConvNorm(before, part, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.max_pool2d(x, 3, 1, 1)
        branches = (
            self.branch1(x),
            self.branch3(self.reduce3(x)),
            self.branch5(self.reduce5(x)),
            self.project(pooled),
        )
        return torch.cat(branches, 1)


class Inception(Network):
    def __init__(self, *, width: int = 64, depth: int = 2, stem_stride: int = 1):
        super().__init__()
        layers: list[nn.Module] = [ConvNorm(1, width, stride=stem_stride)]
        for channels in (2 * width, 4 * width):
            layers.append(ConvNorm(channels // 2, channels, stride=2))
            layers += [InceptionModule(channels, channels) for _ in range(depth)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(4 * width, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


MODELS = {"resnet": ResNet, "deep_cnn": DeepCNN, "wide_cnn": WideCNN, "inception": Inception, "senet": SENet}

NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load(model: nn.Module, params: Arrays, stats: Arrays) -> None:
    """Gives the model the weights of a network of jaxnets; RuntimeError if any is missing, left over or misshapen."""
    tensors = {}

    def visit(tree: Any, path: tuple[str, ...]) -> None:
        if isinstance(tree, dict):
            for name, branch in tree.items():
                visit(branch, (*path, str(name)))
            return
        value = np.asarray(tree)
        if path[-1] == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        tensors[".".join((*path[:-1], NAMES[path[-1]]))] = torch.tensor(value)

    visit(params, ())
    visit(stats, ())
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(tensors | counters)
