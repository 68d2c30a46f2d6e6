"""On what the bits of a training depend beside its settings: versions, devices, processors, flags."""

import hashlib
import os
import platform
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxnets.devices import Devices
from jaxnets.errors import InputError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
FLAGS = re.compile("(JAX|XLA|NVIDIA_TF32)_|NPROC$")
HARMLESS = re.compile("CACHE|PLATFORM|COORDINATOR|DEVICE_IDS|VISIBLE_DEVICES|PYTHON_CLIENT|TRACEBACK|LOG")
"""Parts of the names of those variables that say where and beside what something is computed, not how."""


def fingerprint(devices: Devices) -> dict[str, Any]:
    """JSON that is equal where a training repeats to the last bit."""
    return {
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "processors": processors(),
        **({"instructions": instructions()} if devices[0].platform == "cpu" else {}),
        **{name: value for name, value in sorted(os.environ.items()) if value and is_flag(name)},
    }


def is_flag(name: str) -> bool:
    return bool(FLAGS.match(name)) and not HARMLESS.search(name)


def instructions() -> str:
    """A hash of the names of what this processor can do beyond its architecture's least: XLA compiles for all of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(found.split())).encode()).hexdigest()[:12]


def processors() -> int:
    """That this process may use: XLA divides its sums among them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compare(place: Path, made_by: list[dict[str, Any]], now: dict[str, Any], *, identical: bool) -> None:
    """A warning where one of the fingerprints is another than `now`; InputError if the bits must be `identical`."""
    changed = next(filter(None, (differences(before, now) for before in made_by)), "")
    if changed and identical:
        fix = "go on where it began, or without --require-identical"
        raise InputError(place, f"the bits may differ: {changed}", fix)
    if changed:
        warnings.warn(f"{place}: the bits may differ: {changed}", stacklevel=2)


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not the same, such as `processors 2, was 1`; empty where all is."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {now.get(name, 'unset')}, was {before.get(name, 'unset')}" for name in names)
