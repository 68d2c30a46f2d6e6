"""From gradients to better parameters: stochastic gradient descent with momentum, and its learning rate."""

import math

import numpy as np

from scratch.mlp import Params


def zeros_like(params: Params) -> Params:
    """The velocity before the first step."""
    return [(np.zeros_like(w), np.zeros_like(b)) for w, b in params]


def sgd_update(
    params: Params,
    velocity: Params,
    grads: Params,
    *,
    rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step, in place: params and velocity are moved on, grads are used up.

    g <- g + weight_decay w         the gradient of (weight_decay / 2) |w|^2; biases are left alone
    v <- momentum v + g             with momentum 0, v is left alone and g takes its place
    w <- w - rate v                 Nesterov: w - rate (g + momentum v) (Sutskever et al. 2013, section 2)
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
            g *= rate
            p -= g


def cosine_rate(step: int, *, peak: float, steps: int, warmup: int = 0) -> float:
    """The rate of `step` in 0 .. steps - 1: a straight climb over `warmup` steps to `peak`, then half a cosine down to
    nearly 0 (Loshchilov & Hutter 2017, equation 5)."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
