"""Convolutional networks for handwritten digits, in JAX and Flax NNX.

Importing this package imports nothing else: ``jaxnets.data`` needs no JAX, ``jaxnets.models`` needs JAX and Flax alone.
"""

__version__ = "0.1.0"
