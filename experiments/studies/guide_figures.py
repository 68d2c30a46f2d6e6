"""Experiments behind the figures of the guide, on MNIST: each returns numbers for a JSON file, and a figure of them."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jaxnets import data, plots
from jaxnets.inference.analysis import confusion_counts
from scratch.deform import DeformConfig, deform
from scratch.losses import smooth_labels
from scratch.mlp import loss_and_grads
from scratch.optim import sgd_update
from scratch.recipes import classic, deformed, tuned
from scratch.train import MLPConfig, accuracy, fit, init_state, minibatches, predict

from ..train_scratch import Rows, read_rows

LEARNING_RATES = {1: (0.02, 0.05, 0.1), 8: (0.1, 0.2, 0.5), 64: (0.2, 0.5, 1.0), 1024: (0.5, 1.0, 2.0)}
"""Learning rates to try for each batch size. The one with the best validation accuracy is shown."""

SECONDS = 6.0
"""Training time in seconds for each batch size and learning rate."""

SCORE_SECONDS = 0.25
"""Training time in seconds between two evaluations."""


def mnist_rows(*, validate: bool) -> Rows:
    return read_rows(data.load("mnist"), validate=validate)


def score(settings: MLPConfig, rows: Rows, params: Any) -> float:
    return accuracy(predict(params, rows.x_score, settings), rows.y_score)


def pack(image: np.ndarray) -> str:
    """image (28, 28) in [0, 1] -> its pixels from 0 to 255 as hexadecimal text, which is short in a JSON file."""
    return (255 * image).round().astype(np.uint8).tobytes().hex()


def unpack(text: str) -> np.ndarray:
    """Return the image (28, 28) uint8 that `pack` wrote."""
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(28, 28)


def measure_linear() -> dict[str, Any]:
    """Train a linear classifier and return its weights, one image per class, and its accuracy."""
    rows = mnist_rows(validate=False)
    settings = MLPConfig(widths=(784, 10), epochs=10, learning_rate=0.02, weight_decay=1e-3)
    *_, (state, _) = fit(rows.x_train, rows.y_train, settings, seed=0)
    weights = state.params[0][0].T.reshape(10, 28, 28)
    limit = float(np.abs(weights).max())
    return {
        "test_accuracy": score(settings, rows, state.params),
        "limit": limit,
        "weights": [pack((image / limit + 1) / 2) for image in weights],
    }


def measure_training() -> dict[str, Any]:
    """Return validation accuracies of the recipe `classic`: by epoch for other pixel ranges and initial weights, by
    seconds for other batch sizes."""
    rows = mnist_rows(validate=True)
    raw = rows._replace(x_train=255 * rows.x_train, x_score=255 * rows.x_score)
    with threadpool_limits(1):
        return {
            "inputs": {
                "0 to 1": by_epoch(classic(), rows),
                "0 to 255": by_epoch(classic(), raw),
                **{
                    f"0 to 255, rate {rate}": by_epoch(replace(classic(), learning_rate=rate), raw)
                    for rate in (0.05, 0.005)
                },
            },
            "weights": {f"{std}": by_epoch(replace(classic(), init_std=std), rows) for std in (0.1, 0.0, 1.0, 10.0)},
            "batches": {f"{size}": by_seconds(size, rows) for size in LEARNING_RATES},
        }


def by_epoch(settings: MLPConfig, rows: Rows) -> list[float]:
    return [score(settings, rows, state.params) for state, _ in fit(rows.x_train, rows.y_train, settings, seed=0)]


def by_seconds(batch_size: int, rows: Rows) -> dict[str, Any]:
    """Return the best learning rate with its accuracies by seconds of training."""
    curves = {
        rate: timed_curve(replace(classic(), batch_size=batch_size, learning_rate=rate), rows)
        for rate in LEARNING_RATES[batch_size]
    }
    best = max(curves, key=lambda rate: curves[rate]["accuracy"][-1])
    return {"learning_rate": best, **curves[best]}


def timed_curve(settings: MLPConfig, rows: Rows) -> dict[str, list[float]]:
    """Train for SECONDS, evaluating every SCORE_SECONDS; the time of the evaluations is not counted."""
    state, rng = init_state(settings, seed=0), np.random.default_rng(0)
    targets = smooth_labels(rows.y_train, 10)
    seconds: list[float] = []
    accuracies: list[float] = []
    spent = 0.0
    while spent < SECONDS:
        begin = time.perf_counter()
        for x, y in minibatches(rng, rows.x_train, targets, settings):
            _, grads = loss_and_grads(state.params, x, y, activation=settings.activation, loss=settings.loss)
            sgd_update(state.params, state.velocity, grads, learning_rate=settings.learning_rate)
            spent += time.perf_counter() - begin
            if spent > SCORE_SECONDS * (len(seconds) + 1):
                seconds.append(round(spent, 3))
                accuracies.append(score(settings, rows, state.params))
            begin = time.perf_counter()
            if spent > SECONDS:
                break
    return {"seconds": seconds, "accuracy": accuracies}


def measure_confusion() -> dict[str, Any]:
    """Return the confusion counts of five seeds of the recipe `tuned` on the test images: counts[label][prediction]."""
    rows, counts = mnist_rows(validate=False), np.zeros((10, 10), int)
    with threadpool_limits(1):
        for seed in range(5):
            *_, (state, _) = fit(rows.x_train, rows.y_train, tuned(), seed=seed)
            predictions = predict(state.params, rows.x_score, tuned()).argmax(axis=1)
            counts += confusion_counts(rows.y_score, predictions, 10)
    return {"counts": counts.tolist()}


def measure_warps() -> dict[str, Any]:
    """Return the first training image and seven samples of each augmentation of the recipe `deformed`."""
    image = data.load("mnist").x_train[0, :, :, 0].astype(np.float32) / 255
    strength = deformed().deformation
    assert strength is not None
    parts = {name: replace(DeformConfig(), **{name: value}) for name, value in vars(strength).items()} | {
        "all": strength
    }
    images = np.repeat(image[None], 7, axis=0)
    rng = np.random.default_rng(0)
    warped = {name: [pack(sample) for sample in deform(rng, images, part)] for name, part in parts.items()}
    return {"image": pack(image), "strength": vars(strength), "warps": warped}


def draw_linear(path: Path, numbers: dict[str, Any]) -> None:
    figure = plots.new_figure(8, 3.6)
    figure.suptitle(f"Weights of each class; test accuracy {numbers['test_accuracy']:.1%}", fontsize=10)
    for digit, (axes, image) in enumerate(zip(plots.image_grid(figure, 2, 5), numbers["weights"], strict=True)):
        axes.imshow(unpack(image), cmap="RdBu_r", vmin=0, vmax=255)
        axes.set_xlabel(f"{digit}")
    plots.save_png(figure, path)


@plots.styled
def draw_training(path: Path, numbers: dict[str, Any]) -> None:
    inputs, weights, batches = plots.panels(3, height=3.6)
    for axes, key, title in ((inputs, "inputs", "pixel range"), (weights, "weights", "initial standard deviation")):
        for name, accuracies in numbers[key].items():
            label = name.replace("rate", "learning rate")
            axes.plot(range(1, len(accuracies) + 1), 100 * np.array(accuracies), label=label)
        axes.set(xlabel="epoch", xticks=range(0, 21, 5), ylim=(0, 100))
        axes.legend(title=title, title_fontsize=8)
    for size, curve in numbers["batches"].items():
        label = f"{size}, learning rate {curve['learning_rate']}"
        batches.plot(curve["seconds"], 100 * np.array(curve["accuracy"]), label=label)
    batches.set(xlabel="seconds of training on one core", ylim=(84, 98))
    batches.legend(title="batch size", title_fontsize=8)
    inputs.set(ylabel="validation accuracy, %")
    plots.save_png(inputs.figure, path)


def draw_confusion(path: Path, numbers: dict[str, Any]) -> None:
    [axes] = plots.panels(width=5, height=5.2)
    plots.plot_confusion(axes, np.array(numbers["counts"]))
    plots.save_png(axes.figure, path)


def draw_warps(path: Path, numbers: dict[str, Any]) -> None:
    figure = plots.new_figure(8, 6.4)
    figure.suptitle("One image, seven samples of each augmentation, and of all of them together", fontsize=10)
    grid = plots.image_grid(figure, len(numbers["warps"]), 8)
    for row, (name, samples) in enumerate(numbers["warps"].items()):
        panels = grid[8 * row : 8 * row + 8]
        for axes, image in zip(panels, [numbers["image"], *samples], strict=True):
            plots.plot_image(axes, unpack(image))
        panels[0].set_ylabel(name.split("_")[0], fontsize=8)
    plots.save_png(figure, path)
