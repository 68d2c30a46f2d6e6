"""Optimisation: stochastic gradient descent with momentum, and a learning rate schedule."""

import math

import numpy as np

from scratch.mlp import Params


def zeros_like(params: Params) -> Params:
    """Return the velocity before the first step: zeros, shaped like the parameters."""
    return [(np.zeros_like(w), np.zeros_like(b)) for w, b in params]


def sgd_update(
    params: Params,
    velocity: Params,
    grads: Params,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """Update params and velocity in place by one step; the grads are overwritten.

    g <- g + weight_decay w         gradient of (weight_decay / 2) |w|^2; not for biases
    v <- momentum v + g             if momentum is 0, v is unused and g takes its place
    w <- w - learning_rate v        Nesterov: w - learning_rate (g + momentum v) (Sutskever et al. 2013, section 2)
    """
    for layer, layer_velocity, layer_grads in zip(params, velocity, grads, strict=True):
        w, dw = layer[0], layer_grads[0]
        if weight_decay:
            dw += weight_decay * w
        for p, v, g in zip(layer, layer_velocity, layer_grads, strict=True):
            if momentum:
                v *= momentum
                v += g
                if nesterov:
                    g += momentum * v
                else:
                    g[...] = v
            g *= learning_rate
            p -= g


def cosine_rate(step: int, *, peak: float, steps: int, warmup: int = 0) -> float:
    """Return the learning rate of `step` in 0 .. steps - 1: it rises linearly over `warmup` steps to `peak`, then
    follows half a cosine to nearly 0 (Loshchilov & Hutter 2017, equation 5)."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
