"""The environment fingerprint: what the bits of a result depend on besides its settings.

Versions of the packages that compute, the machine's instruction set, the processors and devices in use, and those
environment variables that choose kernels, precisions or numbers of threads. JAX is imported late: NumPy does without.
"""

import hashlib
import json
import os
import platform
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.errors import InputError

if TYPE_CHECKING:
    from jaxnets.devices import Devices

NUMPY = ("numpy", "scipy")
JAX = ("jax", "jaxlib", "flax", "optax")
NUMPY_VARIABLES = "(NPY|OPENBLAS|GOTO|OMP|MKL|BLIS|VECLIB)_|GLIBC_TUNABLES$"
JAX_VARIABLES = "(JAX|XLA|ONEDNN|DNNL|CUBLAS|CUBLASLT|CUDNN|NVIDIA_TF32)_|(PJRT_)?NPROC$"
HARMLESS = "CACHE|PLATFORM|COORDINATOR|DEVICE_IDS|VISIBLE_DEVICES|PYTHON_CLIENT|TRACEBACK|VERBOSE|_LOG(_|GING)"
"""Parts of the names of variables that choose where something is computed, or what is printed, but not how."""


def fingerprint(devices: "Devices" = ()) -> dict[str, Any]:
    """JSON that is equal if a result repeats bitwise: one computed on `devices`, or by NumPy alone if there are none.

    Several processes call it alike; each of them includes a hash of all of theirs.
    """
    pattern = f"{NUMPY_VARIABLES}|{JAX_VARIABLES}" if devices else NUMPY_VARIABLES
    found = {
        **{name: version(name) for name in (NUMPY + JAX if devices else NUMPY)},
        "machine": platform.machine(),
        "instructions": instructions(),
        "processors": processors(),
        **{name: value for name, value in sorted(os.environ.items()) if value and is_named(name, pattern)},
    }
    return found | on_devices(devices, found) if devices else found


def is_named(name: str, pattern: str) -> bool:
    return bool(re.match(pattern, name)) and not re.search(HARMLESS, name)


def on_devices(devices: "Devices", host: dict[str, Any]) -> dict[str, Any]:
    """The devices and processes; of several processes, each with its own `host`, also a hash of all hosts."""
    import jax
    from jax.experimental import multihost_utils

    found = {"device": devices[0].device_kind, "devices": len(devices), "processes": jax.process_count()}
    if jax.process_count() == 1:
        return found
    digest = hashlib.sha256(json.dumps(host, sort_keys=True).encode()).digest()
    hosts = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.int32)))
    return found | {"hosts": hashlib.sha256(hosts.tobytes()).hexdigest()[:12]}


def instructions() -> str:
    """A hash of the names of what this processor can do beyond its architecture's least: XLA compiles for all of it,
    and NumPy and OpenBLAS choose their kernels by it."""
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
        fix = "compute all of it in one environment, or leave out --require-identical"
        raise InputError(place, f"the bits may differ: {changed}", fix)
    if changed:
        warnings.warn(f"{place}: the bits may differ: {changed}", stacklevel=2)


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not the same, such as `processors 2, was 1`; empty where all is."""
    if not before:
        return "the environment at the start was not recorded"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {now.get(name, 'unset')}, was {before.get(name, 'unset')}" for name in names)
