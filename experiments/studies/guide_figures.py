"""The small experiments behind the guide's figures, on MNIST: each gives plain numbers, which are saved and drawn."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from experiments.train_scratch import Rows, read_rows
from jaxnets import data, plots
from jaxnets.plots import grid, save
from scratch.deform import Strength, deform
from scratch.losses import smooth_labels
from scratch.mlp import loss_and_grads
from scratch.optim import sgd_update
from scratch.recipes import classic, deformed, tuned
from scratch.train import Settings, accuracy, fit, minibatches, predict, start

RATES = {1: (0.02, 0.05, 0.1), 8: (0.1, 0.2, 0.5), 64: (0.2, 0.5, 1.0), 1024: (0.5, 1.0, 2.0)}
"""The learning rates that are tried for each batch size. The one best on the validation rows is shown."""

SECONDS = 6.0
"""Of training, for each batch size and rate."""


def mnist_rows(*, validate: bool) -> Rows:
    return read_rows(data.load("mnist"), validate=validate)


def score(settings: Settings, rows: Rows, params: Any) -> float:
    return accuracy(predict(params, rows.x_score, settings), rows.y_score)


def pack(image: np.ndarray) -> str:
    """image (H, W) in [0, 1] -> its pixels from 0 to 255 as hexadecimal text, short in a JSON file."""
    return (255 * image).round().astype(np.uint8).tobytes().hex()


def unpack(text: str, shape: Sequence[int] = (28, 28)) -> np.ndarray:
    """-> (H, W) uint8."""
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(shape)


def linear() -> dict[str, Any]:
    """The weights of a linear classifier, an image a class, and its accuracy."""
    rows = mnist_rows(validate=False)
    settings = Settings(widths=(784, 10), epochs=10, learning_rate=0.02, weight_decay=1e-3)
    *_, (state, _) = fit(rows.x_train, rows.y_train, settings, seed=0)
    weights = state.params[0][0].T.reshape(10, 28, 28)
    limit = float(np.abs(weights).max())
    return {
        "test_accuracy": score(settings, rows, state.params),
        "limit": limit,
        "weights": [pack((image / limit + 1) / 2) for image in weights],
    }


def training() -> dict[str, Any]:
    """Validation accuracies of the classic network: an epoch each, for pixels and first weights of another size; by
    seconds, for other sizes of the batch."""
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
            "batches": {f"{size}": by_seconds(size, rows) for size in RATES},
        }


def by_epoch(settings: Settings, rows: Rows) -> list[float]:
    return [score(settings, rows, state.params) for state, _ in fit(rows.x_train, rows.y_train, settings, seed=0)]


def by_seconds(batch_size: int, rows: Rows) -> dict[str, Any]:
    """The best of the rates: the curve of its accuracy over the seconds of training."""
    curves = {}
    for rate in RATES[batch_size]:
        curves[rate] = curve(replace(classic(), batch_size=batch_size, learning_rate=rate), rows)
    best = max(curves, key=lambda rate: curves[rate]["accuracy"][-1])
    return {"learning_rate": best, **curves[best]}


def curve(settings: Settings, rows: Rows) -> dict[str, list[float]]:
    """A look every quarter of a second, off the clock."""
    state, rng = start(settings, seed=0), np.random.default_rng(0)
    targets = smooth_labels(rows.y_train, 10)
    seconds: list[float] = []
    accuracies: list[float] = []
    spent = 0.0
    while spent < SECONDS:
        begin = time.perf_counter()
        for x, y in minibatches(rng, rows.x_train, targets, settings):
            _, grads = loss_and_grads(state.params, x, y, activation=settings.activation, loss=settings.loss)
            sgd_update(state.params, state.velocity, grads, rate=settings.learning_rate)
            spent += time.perf_counter() - begin
            if spent > 0.25 * (len(seconds) + 1):
                seconds.append(round(spent, 3))
                accuracies.append(score(settings, rows, state.params))
            begin = time.perf_counter()
            if spent > SECONDS:
                break
    return {"seconds": seconds, "accuracy": accuracies}


def confusion() -> dict[str, Any]:
    """What five networks of the recipe `tuned` answer on MNIST's test images, added up: counts[label][answer]."""
    rows, counts = mnist_rows(validate=False), np.zeros((10, 10), int)
    with threadpool_limits(1):
        for seed in range(5):
            *_, (state, _) = fit(rows.x_train, rows.y_train, tuned(), seed=seed)
            answers = predict(state.params, rows.x_score, tuned()).argmax(axis=1)
            counts += plots.confusion_counts(rows.y_score, answers, 10)
    return {"counts": counts.tolist()}


def warps() -> dict[str, Any]:
    """The first training image, and what each part of the recipe `deformed` makes of it seven times."""
    image = data.load("mnist").x_train[0, :, :, 0].astype(np.float32) / 255
    whole = deformed().deformation
    assert whole is not None
    parts = {name: replace(Strength(), **{name: value}) for name, value in vars(whole).items()} | {"all": whole}
    images = np.repeat(image[None], 7, axis=0)
    rng = np.random.default_rng(0)
    warped = {name: [pack(one) for one in deform(rng, images, part)] for name, part in parts.items()}
    return {"image": pack(image), "strength": vars(whole), "warps": warped}


def draw_linear(path: Path, numbers: dict[str, Any]) -> None:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    figure.suptitle(f"The weights of each class, test accuracy {numbers['test_accuracy']:.1%}", fontsize=10)
    for digit, (axes, image) in enumerate(zip(grid(figure, 2, 5), numbers["weights"], strict=True)):
        axes.imshow(unpack(image), cmap="RdBu_r", vmin=0, vmax=255)
        axes.set_xlabel(f"{digit}")
    save(figure, path)


def draw_training(path: Path, numbers: dict[str, Any]) -> None:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, key, title in zip(panels, ("inputs", "weights"), ("pixels from", "first weights of sd"), strict=False):
        for name, accuracies in numbers[key].items():
            axes.plot(range(1, len(accuracies) + 1), 100 * np.array(accuracies), label=name)
        axes.set(xlabel="epoch", xticks=range(0, 21, 5), ylim=(0, 100))
        axes.legend(title=title, fontsize=8, title_fontsize=8)
    for size, curve in numbers["batches"].items():
        label = f"{size}, rate {curve['learning_rate']}"
        panels[2].plot(curve["seconds"], 100 * np.array(curve["accuracy"]), label=label)
    panels[2].set(xlabel="seconds of training, one core", ylim=(84, 98))
    panels[2].legend(title="batches of", fontsize=8, title_fontsize=8)
    panels[0].set(ylabel="accuracy on held-out rows (%)")
    save(figure, path)


def draw_confusion(path: Path, numbers: dict[str, Any]) -> None:
    plots.draw_confusion(path, np.array(numbers["counts"]))


def draw_warps(path: Path, numbers: dict[str, Any]) -> None:
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    figure.suptitle("One image, what each part of the recipe makes of it, and all of them together", fontsize=10)
    panels = iter(grid(figure, len(numbers["warps"]), 8))
    for name, warped in numbers["warps"].items():
        first = next(panels)
        first.imshow(unpack(numbers["image"]), cmap="gray_r", vmin=0, vmax=255)
        first.set_ylabel(name.split("_")[0], fontsize=8)
        for image, axes in zip(warped, panels, strict=False):  # in this order, or a panel is lost
            axes.imshow(unpack(image), cmap="gray_r", vmin=0, vmax=255)
    save(figure, path)
