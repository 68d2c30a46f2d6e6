"""PyTorch's side of the benchmark, eager or compiled, as its users would write it for speed: data and batched
augmentation on the device, channels last, fused AdamW, and autocast in half precision, on CPUs too."""

import math

import numpy as np
import torch
from torch.nn import functional

from jaxnets.config import AugmentConfig

from .case import Case, Side, Weights
from .torch_models import MODELS, load

NODES = 9
"""Random displacements a side of the elastic grid, enlarged bicubically: cheaper than blurring noise, as torchvision
and kornia do, and so to PyTorch's advantage."""


def build(case: Case, weights: Weights, *, compiled: bool) -> Side:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = MODELS[case.family](**case.sizes)
    load(model, weights.params, weights.stats)
    with torch.no_grad():
        weights.check(model(torch.tensor(weights.probe).permute(0, 3, 1, 2)).numpy(), "PyTorch")
    load(model, weights.params, weights.stats)
    model = model.to(device, memory_format=torch.channels_last)
    network = torch.compile(model) if compiled else model

    training = case.training
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    images = torch.tensor(case.images, device=device).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(case.labels.astype(np.int64), device=device)
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    autocast = torch.autocast(device.type, getattr(torch, case.precision), enabled=case.precision != "float32")

    def train(augmentation: AugmentConfig | None) -> None:
        model.train()
        order = torch.randperm(len(images), device=device)[: case.steps * training.batch_size]
        for rows in order.split(training.batch_size):
            batch = images[rows].float().div_(255)
            if augmentation:
                batch = augment(batch, augmentation)
            optimizer.zero_grad()
            with autocast:
                logits = network(batch)
            functional.cross_entropy(logits.float(), labels[rows], label_smoothing=training.label_smoothing).backward()
            torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm, foreach=True)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - training.ema_decay)
        wait(device)

    def answer(pictures: torch.Tensor, matrices: list[torch.Tensor | None]) -> None:
        model.eval()
        with torch.inference_mode(), autocast:
            for matrix in matrices:
                for batch in pictures.split(128 if device.type == "cpu" else 1024):
                    batch = batch.float().div_(255)
                    network(batch if matrix is None else warp(batch, matrix)).log_softmax(1).cpu()

    views = [None, *draw_matrices(case.views - 1, training.augmentation, device).split(1)]
    works = {
        "step": lambda: train(None),
        "loop": lambda: train(training.augmentation),
        "infer": lambda: answer(images[: case.answered], [None]),
        "tta": lambda: answer(images[: len(case.viewed())], views),
    }
    return Side(works, lambda: device_bytes(device), {"parameters": sum(p.numel() for p in parameters)})


def draw_matrices(count: int, strength: AugmentConfig, device: torch.device) -> torch.Tensor:
    """-> (count, 2, 3) affine maps for functional.affine_grid: rotation, zoom, shear and shift."""
    draw = lambda half: half * (2 * torch.rand(count, device=device) - 1)
    angle, slant = draw(math.radians(strength.rotation_degrees)), draw(math.radians(strength.shear_degrees)).tan()
    zoom = draw(math.log1p(strength.zoom)).exp()
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    across, down = draw(strength.shift_pixels / 14), draw(strength.shift_pixels / 14)
    return torch.stack([torch.stack([cos, slant - sin, across], 1), torch.stack([sin, cos, down], 1)], 1)


def augment(images: torch.Tensor, strength: AugmentConfig) -> torch.Tensor:
    """images (B, 1, 28, 28) float: an affine map and an elastic field each, read once, bilinearly."""
    grid = functional.affine_grid(
        draw_matrices(len(images), strength, images.device), list(images.shape), align_corners=False
    )
    nodes = torch.randn(len(images), 2, NODES, NODES, device=images.device) * (strength.elastic_pixels / 14)
    field = functional.interpolate(nodes, images.shape[2:], mode="bicubic", align_corners=True)
    return functional.grid_sample(images, grid + field.permute(0, 2, 3, 1), align_corners=False)


def warp(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None
