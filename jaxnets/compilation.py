"""How programs are compiled that run for long enough to be worth it."""

import warnings
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

ONEDNN: dict[str, str | bool] = {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}


@cache
def supports_onednn() -> bool:
    """Return True if XLA passes convolutions to oneDNN, as jax 0.12 does on CPUs; jax 0.10 ignores the options."""
    x, kernel = jnp.zeros((1, 8, 8, 8)), jnp.zeros((3, 3, 8, 8))
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=layout)
    try:
        return "onednn$convolution" in compile_with_onednn(jax.jit(convolve).lower(x, kernel)).as_text()
    except Exception:  # which error an unknown option raises differs from version to version
        return False


def compile_with_onednn(lowered: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
        return lowered.compile(ONEDNN)


def compile_optimized(lowered: Any, devices: Sequence[jax.Device]) -> Any:
    """Compile a lowered function that runs for longer than it takes to compile.

    On a CPU it uses oneDNN's convolutions instead of Eigen's, with which jax 0.12 predicts 1.1 to 1.4 times as fast and
    trains 1.0 to 1.15 times as fast in float32. The compilation cache cannot store such a program, so every start
    compiles it.
    """
    return compile_with_onednn(lowered) if devices[0].platform == "cpu" and supports_onednn() else lowered.compile()
