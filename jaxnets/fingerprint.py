"""On what the bits of a training depend beside its settings: versions, devices, processors, flags."""

import os
import platform
from importlib.metadata import version
from typing import Any

import jax

from jaxnets.devices import Devices

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
FLAGS = ("XLA_FLAGS", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_DISABLE_MOST_OPTIMIZATIONS", "NVIDIA_TF32_OVERRIDE")


def fingerprint(devices: Devices) -> dict[str, Any]:
    """JSON that is equal where a training repeats to the last bit."""
    return {
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "processors": processors(),
        **{name: os.environ[name] for name in FLAGS if os.environ.get(name)},
    }


def processors() -> int:
    """That this process may use: XLA divides its sums among them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not the same, such as `processors 2, was 1`; empty where all is."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {now.get(name, 'unset')}, was {before.get(name, 'unset')}" for name in names)
