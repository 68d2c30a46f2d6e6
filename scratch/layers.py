"""The layers of a perceptron: each has a forward pass and, below it, its backward pass by the chain rule.

A `*_forward` returns its output and a cache. A `*_backward` takes the gradient of the loss with respect to that output,
and the cache, and returns the gradients with respect to the inputs of the forward pass, in the same order. B examples,
I inputs, O outputs; dtypes follow the inputs: float32 for training, float64 for gradient checks.
"""

import numpy as np


def dense_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """z = x w + b. x (B, I), w (I, O), b (O,) -> z (B, O), cache."""
    z = x @ w
    z += b
    return z, (x, w)


def dense_backward(dz: np.ndarray, cache: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx = dz w^T, dw = x^T dz, db = the sum of dz's rows. dz (B, O) -> dx (B, I), dw (I, O), db (O,)."""
    _, w = cache
    return (dz @ w.T, *dense_params_backward(dz, cache))


def dense_params_backward(dz: np.ndarray, cache: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """dw and db only, for the first layer: nothing needs the gradient of the images, a third of the work."""
    x, _ = cache
    return x.T @ dz, dz.sum(axis=0)


def sigmoid_forward(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a = 1 / (1 + e^-z), any shape. The exponent is never positive, so nothing overflows at z = -700."""
    e = np.exp(-np.abs(z))
    a = np.where(z >= 0, 1, e) / (1 + e)
    return a, a


def sigmoid_backward(da: np.ndarray, a: np.ndarray) -> np.ndarray:
    """dz = da a (1 - a)."""
    return da * a * (1 - a)


def tanh_forward(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a = tanh z, any shape."""
    a = np.tanh(z)
    return a, a


def tanh_backward(da: np.ndarray, a: np.ndarray) -> np.ndarray:
    """dz = da (1 - a^2)."""
    return da * (1 - a * a)


def relu_forward(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a = max(z, 0), any shape."""
    a = np.maximum(z, 0)
    return a, a


def relu_backward(da: np.ndarray, a: np.ndarray) -> np.ndarray:
    """dz = da if z > 0, else 0. At z = 0 any slope from 0 to 1 is valid; 0 is the convention."""
    return da * (a > 0)


ACTIVATIONS = {
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "tanh": (tanh_forward, tanh_backward),
    "relu": (relu_forward, relu_backward),
}
