"""XLA's CPU backend computes a convolution's weight gradient many times slower inside `lax.scan` than outside it.

A self-contained script for a bug report to XLA: `python experiments/studies/scan_gradient.py`. It is the reason why
jaxnets compiles one training step per call on CPUs.
"""

import time

import jax
import jax.numpy as jnp

NUM_STEPS = 5
x = jnp.ones((64, 14, 14, 16))
kernel = jnp.ones((3, 3, 16, 16))


def loss(kernel: jax.Array) -> jax.Array:
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return (y**2).mean()


def gradient_step(kernel: jax.Array) -> jax.Array:
    return kernel - 0.1 * jax.grad(loss)(kernel)


compiled_step = jax.jit(gradient_step)


def train_in_loop(kernel: jax.Array) -> jax.Array:
    for _ in range(NUM_STEPS):
        kernel = compiled_step(kernel)
    return kernel


@jax.jit
def train_in_scan(kernel: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda carry, _: (gradient_step(carry), None), kernel, length=NUM_STEPS)[0]


if __name__ == "__main__":
    for name, train in (("in a Python loop", train_in_loop), ("in a scan", train_in_scan)):
        train(kernel).block_until_ready()
        begin = time.perf_counter()
        train(kernel).block_until_ready()
        print(f"{NUM_STEPS} steps {name}: {1e3 * (time.perf_counter() - begin):.1f} ms, jax {jax.__version__}")
