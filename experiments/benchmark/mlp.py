"""The classic network of scratch against PyTorch and scikit-learn on the CPU: the same layers, first weights of the
same size, batches of 64, rate and epochs, one after the other in one process."""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jaxnets import data
from scratch.recipes import classic
from scratch.train import MLPConfig, fit, predict

from ..cli.console import percent, say

Answer = Callable[[np.ndarray], np.ndarray]
"""A trained network: x (N, I) -> classes (N,)."""

Trainer = Callable[[np.ndarray, np.ndarray, MLPConfig, int | None], Answer]
"""x (N, I) float32, y (N,), settings, threads -> a trained network."""


def by_scratch(x: np.ndarray, y: np.ndarray, settings: MLPConfig, threads: int | None) -> Answer:
    with threadpool_limits(threads or 1):
        *_, (state, _) = fit(x, y, settings, seed=0)
    return lambda x: predict(state.params, x, settings).argmax(axis=1)


def by_torch(x: np.ndarray, y: np.ndarray, settings: MLPConfig, threads: int | None) -> Answer:
    """Tensors in memory, rows taken by index: a DataLoader would be slower."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    inputs, hidden, classes = settings.widths
    layers = torch.nn.Linear(inputs, hidden), torch.nn.Linear(hidden, classes)
    for layer in layers:
        torch.nn.init.normal_(layer.weight, std=0.1)
        torch.nn.init.zeros_(layer.bias)
    model = torch.nn.Sequential(layers[0], torch.nn.Sigmoid(), layers[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
    cost = torch.nn.CrossEntropyLoss()
    images, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(images)).split(settings.batch_size):
            optimizer.zero_grad()
            cost(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return lambda x: model(torch.from_numpy(x)).argmax(dim=1).numpy()


def by_sklearn(x: np.ndarray, y: np.ndarray, settings: MLPConfig, threads: int | None) -> Answer:
    """With its own first weights: it lets nobody choose them."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        settings.widths[1:-1],
        activation="logistic",
        solver="sgd",
        alpha=0.0,
        batch_size=settings.batch_size,
        learning_rate_init=settings.learning_rate,
        momentum=0.0,
        max_iter=settings.epochs,
        n_iter_no_change=settings.epochs,
        random_state=0,
    )
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "not converged": it was not asked to
        model.fit(x, y)
    return model.predict


def compare(digits: data.Digits, *, rounds: int, epochs: int, threads: int | None) -> dict[str, dict[str, Any]]:
    """Times every library that is installed, in turn -> for each its seconds and its test accuracy."""
    x, x_test = (images.reshape(len(images), -1).astype(np.float32) / 255 for images in (digits.x_train, digits.x_test))
    settings = replace(classic(), epochs=epochs, widths=(x.shape[1], 64, digits.num_classes))
    trainers: dict[str, Trainer] = {"scratch": by_scratch}
    trainers |= {name: TRAINERS[name] for name in TRAINERS if find_spec(name)}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    accuracies = {}
    for trainer in trainers.values():  # imports and first calls, off the clock
        trainer(x[:640], digits.y_train[:640], replace(settings, epochs=1), threads)
    for number in range(rounds):
        for name, trainer in trainers.items():
            begin = time.perf_counter()
            answer = trainer(x, digits.y_train, settings, threads)
            seconds[name].append(time.perf_counter() - begin)
            accuracies[name] = float((answer(x_test) == digits.y_test).mean())
            say(f"round {number + 1}/{rounds}: {name} {seconds[name][-1]:.2f} s, {percent(accuracies[name])}")
    return {name: {"seconds": seconds[name], "test_accuracy": accuracies[name]} for name in trainers}


TRAINERS: dict[str, Trainer] = {"torch": by_torch, "sklearn": by_sklearn}
