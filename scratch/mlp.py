"""The network: dense layers with activations between them. Its parameters are a list [(w, b), ...]."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from scratch.layers import ACTIVATIONS, dense_backward, dense_forward, dense_params_backward
from scratch.losses import LOSSES

Params = list[tuple[np.ndarray, np.ndarray]]


def init_params(rng: np.random.Generator, widths: Sequence[int], *, std: float | None = None) -> Params:
    """Return normal random weights w (I, O) and zero biases b (O,), float32, for `widths` from inputs to classes.

    `std` is the weights' standard deviation; None means sqrt(2 / I), which preserves the variance of the activations
    of ReLU layers (He et al. 2015, equation 10).
    """
    params = []
    for inputs, outputs in pairwise(widths):
        w = rng.standard_normal((inputs, outputs), dtype=np.float32)
        w *= np.float32(np.sqrt(2 / inputs) if std is None else std)
        params.append((w, np.zeros(outputs, np.float32)))
    return params


def forward(params: Params, x: np.ndarray, *, activation: str) -> tuple[np.ndarray, list[Any]]:
    """Forward pass: x (B, I) -> logits (B, K) and, per layer, the caches of its dense part and its activation."""
    act, _ = ACTIVATIONS[activation]
    caches = []
    for w, b in params[:-1]:
        z, dense_cache = dense_forward(x, w, b)
        x, act_cache = act(z)
        caches.append((dense_cache, act_cache))
    logits, dense_cache = dense_forward(x, *params[-1])
    return logits, [*caches, (dense_cache, None)]


def backward(dlogits: np.ndarray, caches: list[Any], *, activation: str) -> Params:
    """Backward pass, through the layers in reverse: dlogits (B, K) -> gradients [(dw, db), ...], shaped like the
    parameters."""
    _, act_backward = ACTIVATIONS[activation]
    dz, grads = dlogits, []
    for layer in range(len(caches) - 1, 0, -1):
        da, dw, db = dense_backward(dz, caches[layer][0])
        grads.append((dw, db))
        dz = act_backward(da, caches[layer - 1][1])
    grads.append(dense_params_backward(dz, caches[0][0]))
    return grads[::-1]


def loss_and_grads(
    params: Params, x: np.ndarray, targets: np.ndarray, *, activation: str, loss: str
) -> tuple[np.floating, Params]:
    """Return the mean loss of x (B, I) and targets (B, K), and its gradients, shaped like the parameters."""
    logits, caches = forward(params, x, activation=activation)
    value, dlogits = LOSSES[loss](logits, targets)
    return value, backward(dlogits, caches, activation=activation)
