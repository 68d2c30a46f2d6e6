"""Gradients by differences: slow, with no formula to get wrong, and so the judge of those that have one."""

from collections.abc import Callable

import numpy as np


def numerical_gradient(f: Callable[[], float], x: np.ndarray, *, step: float = 1e-5) -> np.ndarray:
    """(f(x + h) - f(x - h)) / 2h for every element of x (any shape, float64), which is moved in place and put back.

    The error shrinks with h^2, but rounding grows with 1 / h: near 1e-5 both are small.
    """
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = f()
        x[index] = kept - step
        gradient[index] = (above - f()) / (2 * step)
        x[index] = kept
    return gradient
