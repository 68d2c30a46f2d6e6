"""Convolutional networks for handwritten digits, in JAX and Flax NNX.

Importing this package imports no other: ``jaxnets.data`` needs NumPy only, ``jaxnets.models`` JAX, Flax and NumPy.
"""

__version__ = "0.1.0"
