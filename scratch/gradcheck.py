"""Numerical gradients by finite differences: slow, but a simple check of every gradient formula."""

from collections.abc import Callable

import numpy as np


def numerical_gradient(f: Callable[[], float], x: np.ndarray, *, step: float = 1e-5) -> np.ndarray:
    """Return (f(x + h) - f(x - h)) / 2h for every element of x (any shape, float64).

    x is changed in place and restored. The truncation error shrinks with h^2 and the rounding error grows with 1 / h;
    near 1e-5 both are small.
    """
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        original = x[index]
        x[index] = original + step
        above = f()
        x[index] = original - step
        gradient[index] = (above - f()) / (2 * step)
        x[index] = original
    return gradient
