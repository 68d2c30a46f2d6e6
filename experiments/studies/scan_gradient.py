"""XLA's CPU backend computes a convolution's weight gradient many times slower inside `lax.scan` than outside it.

Stands alone, for a report to XLA: `python experiments/studies/scan_gradient.py`. It is why jaxnets trains one step a
dispatch on a CPU.
"""

import time

import jax
import jax.numpy as jnp

LENGTH = 5
x, kernel = jnp.ones((64, 14, 14, 16)), jnp.ones((3, 3, 16, 16))


def loss(kernel: jax.Array) -> jax.Array:
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return (y**2).mean()


descend = lambda kernel, _: (kernel - 0.1 * jax.grad(loss)(kernel), None)
scanned = jax.jit(lambda kernel: jax.lax.scan(descend, kernel, length=LENGTH)[0])
stepped = jax.jit(lambda kernel: descend(kernel, None)[0])


def stepwise(kernel: jax.Array) -> jax.Array:
    for _ in range(LENGTH):
        kernel = stepped(kernel)
    return kernel


if __name__ == "__main__":
    for name, steps in (("step by step", stepwise), ("in a scan", scanned)):
        steps(kernel).block_until_ready()
        begin = time.perf_counter()
        steps(kernel).block_until_ready()
        print(f"{LENGTH} steps {name}: {1e3 * (time.perf_counter() - begin):.1f} ms, jax {jax.__version__}")
