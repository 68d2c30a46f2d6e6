"""Trains the network of a well-known Kaggle entry in PyTorch, for comparison on the same rows.

    python -m experiments.benchmark.deotte --data kaggle

Deotte, "25 Million Images! [0.99757] MNIST", Kaggle 2018: seven convolutions, batch norm and dropout; 45 epochs of Adam
in batches of 64, the learning rate times 0.95 after each epoch; rotation, shift, and zoom of each axis on its own. One
network is trained on the complement of a fold and scored on the fold after the last epoch.
"""

import math
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.inference.ensemble import nll
from jaxnets.store.atomic import write_json

from ..cli.console import result, say
from ..cli.options import run
from ..cli.paths import writable_file
from ..cli.provenance import command

if TYPE_CHECKING:
    import torch

ROTATION_DEGREES, ZOOM, SHIFT = 10, 0.1, 0.1
"""Half-widths of uniform distributions; the shift is a fraction of the image's side."""
LEARNING_RATE, DECAY, BATCH_SIZE = 1e-3, 0.95, 64


@dataclass(frozen=True, kw_only=True)
class DeotteOptions:
    data: str = "kaggle"
    """The data, as for the pipeline; images of 28 x 28 pixels."""
    data_path: Path | None = None
    """Directory with the files of mnist or kaggle."""
    fold: tuple[int, int] = (0, 5)
    """Two integers K F: score fold K (counted from 0) of F stratified folds, and train on the others."""
    epochs: int = 45
    """Number of passes over the training images."""
    seed: int = 0
    """Seed of the weights, the order of images and the augmentation."""
    out: Path = Path("checkpoints/deotte.json")
    """File for the result."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one network achieves on the rows of its fold."""

    errors: int
    rows: int
    nll: float
    seconds: float
    epochs: int
    command: str


def make_network(num_classes: int) -> "torch.nn.Module":
    """Return the network; each convolution is followed by ReLU and batch norm."""
    from torch import nn

    def block(before: int, channels: int, size: int, stride: int = 1) -> list[nn.Module]:
        padding = size // 2 if stride > 1 else 0
        return [nn.Conv2d(before, channels, size, stride, padding), nn.ReLU(), nn.BatchNorm2d(channels)]

    first = [*block(1, 32, 3), *block(32, 32, 3), *block(32, 32, 5, 2), nn.Dropout(0.4)]
    second = [*block(32, 64, 3), *block(64, 64, 3), *block(64, 64, 5, 2), nn.Dropout(0.4)]
    last = [*block(64, 128, 4), nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, num_classes)]
    return nn.Sequential(*first, *second, *last)


def augment(images: "torch.Tensor") -> "torch.Tensor":
    """Rotate, zoom and shift each image (B, 1, H, W) at random, with the nearest pixels beyond its edges."""
    import torch
    from torch.nn import functional

    def uniform(half_width: float) -> "torch.Tensor":
        return half_width * (2 * torch.rand(len(images)) - 1)

    angle = uniform(math.radians(ROTATION_DEGREES))
    cosine, sine, zoom_x, zoom_y = torch.cos(angle), torch.sin(angle), 1 + uniform(ZOOM), 1 + uniform(ZOOM)
    # grid_sample measures in half sides
    rows = [cosine * zoom_x, -sine * zoom_y, uniform(2 * SHIFT), sine * zoom_x, cosine * zoom_y, uniform(2 * SHIFT)]
    matrices = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def train(images: "torch.Tensor", labels: "torch.Tensor", epochs: int, num_classes: int) -> "torch.nn.Module":
    """Train a network on images (N, 1, 28, 28) in [0, 1] and labels (N,)."""
    import torch
    from torch.nn import functional

    network = make_network(num_classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
    for epoch in range(epochs):
        begin, losses = time.perf_counter(), []
        for rows in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(augment(images[rows])), labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        seconds = time.perf_counter() - begin
        say(f"epoch {epoch + 1}/{epochs}  loss {np.mean(losses):.4f}  {len(images) / seconds:,.0f} images/s")
    return network.eval()


def main(options: DeotteOptions) -> None:
    if not find_spec("torch"):
        raise InputError("experiments.benchmark.deotte", "torch is not installed", "pip install -e '.[bench]'")
    import torch

    writable_file(options.out)
    digits = data.load(options.data, options.data_path)
    number, count = options.fold
    if digits.x_train.shape[1:] != (28, 28, 1) or not 0 <= number < count:
        raise InputError("--data, --fold", "need images of 28 x 28 pixels and a fold below F", "give mnist or kaggle")
    train_rows, valid_rows = data.stratified_folds(digits.y_train, count)[number]
    images = torch.tensor(digits.x_train).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(digits.y_train.astype(np.int64))
    torch.manual_seed(options.seed)
    begin = time.perf_counter()
    network = train(images[train_rows], labels[train_rows], options.epochs, digits.num_classes)
    seconds = time.perf_counter() - begin
    with torch.inference_mode():
        log_probs = torch.cat([network(part).log_softmax(dim=1) for part in images[valid_rows].split(1000)]).numpy()
    truth = digits.y_train[valid_rows]
    found = Result(
        errors=int((log_probs.argmax(axis=1) != truth).sum()),
        rows=len(truth),
        nll=nll(log_probs, truth),
        seconds=seconds,
        epochs=options.epochs,
        command=command(),
    )
    write_json(options.out, asdict(found))
    result(f"{found.errors} errors of {found.rows:,}, NLL {found.nll:.4f}, {seconds:.0f} s; {options.out}")


if __name__ == "__main__":
    run(main, DeotteOptions, resumes=False)
