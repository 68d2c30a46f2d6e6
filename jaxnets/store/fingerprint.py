"""The environment fingerprint: all that the bits of a result depend on besides its configuration.

It has the versions of the numerical packages, the processor's instruction set, the processors and devices in use, and
the environment variables that choose kernels, precisions or numbers of threads. JAX is imported inside functions, as
the NumPy-only part works without it.
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
from jaxnets.processor import instruction_sets, processors

if TYPE_CHECKING:
    from jaxnets.devices import Devices

NUMPY_PACKAGES = ("numpy", "scipy")
JAX_PACKAGES = ("jax", "jaxlib", "flax", "optax")
NUMPY_VARIABLES = "(NPY|OPENBLAS|GOTO|OMP|MKL|BLIS|VECLIB)_|GLIBC_TUNABLES$"
JAX_VARIABLES = "(JAX|XLA|ONEDNN|DNNL|CUBLAS|CUBLASLT|CUDNN|NVIDIA_TF32)_|(PJRT_)?NPROC$"
HARMLESS = "CACHE|PLATFORM|COORDINATOR|DEVICE_IDS|VISIBLE_DEVICES|PYTHON_CLIENT|TRACEBACK|VERBOSE|_LOG(_|GING)"
"""Parts of the names of variables that choose where something is computed, or what is printed, but not how."""


def fingerprint(devices: "Devices" = ()) -> dict[str, Any]:
    """Return JSON that is equal for two environments only if results repeat bitwise.

    With several processes, each must call it; each result contains a hash of all of theirs.

    Args:
        devices: JAX devices that compute the result; none for a result of NumPy alone.
    """
    pattern = f"{NUMPY_VARIABLES}|{JAX_VARIABLES}" if devices else NUMPY_VARIABLES
    found = {
        **{name: version(name) for name in (NUMPY_PACKAGES + JAX_PACKAGES if devices else NUMPY_PACKAGES)},
        "machine": platform.machine(),
        "instructions": instructions(),
        "processors": processors(),
        **{name: value for name, value in sorted(os.environ.items()) if value and affects_results(name, pattern)},
    }
    return found | describe_devices(devices, found) if devices else found


def affects_results(variable: str, pattern: str) -> bool:
    """Return whether an environment variable matches `pattern` and is not known to be harmless."""
    return bool(re.match(pattern, variable)) and not re.search(HARMLESS, variable)


def describe_devices(devices: "Devices", host: dict[str, Any]) -> dict[str, Any]:
    """Return the number and kind of devices and processes, and with several processes a hash of all their `host`."""
    import jax
    from jax.experimental import multihost_utils

    found = {"device": devices[0].device_kind, "devices": len(devices), "processes": jax.process_count()}
    if jax.process_count() == 1:
        return found
    digest = hashlib.sha256(json.dumps(host, sort_keys=True).encode()).digest()
    hosts = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.int32)))
    return found | {"hosts": hashlib.sha256(hosts.tobytes()).hexdigest()[:12]}


def instructions() -> str:
    """Return a hash of the processor's optional instruction sets: XLA, NumPy and OpenBLAS choose kernels by them."""
    names = instruction_sets()
    return hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:12] if names else "unknown"


def check_same_environment(
    location: Path, earlier: list[dict[str, Any]], now: dict[str, Any], *, identical: bool
) -> None:
    """Warn if an earlier fingerprint differs from `now`.

    Args:
        location: what was computed, for the message.
        earlier: fingerprints of the environments in which it was computed so far.
        now: this environment's fingerprint.
        identical: raise InputError instead of warning.
    """
    changed = next(filter(None, (differences(before, now) for before in earlier)), "")
    if changed and identical:
        fix = "compute all of it in one environment, or do not require identical results"
        raise InputError(location, f"the bits may differ: {changed}", fix)
    if changed:
        warnings.warn(f"{location}: the bits may differ: {changed}", stacklevel=2)


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what differs between two fingerprints, such as `processors 2, was 1`; empty if nothing does."""
    if not before:
        return "the environment at the start was not recorded"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {now.get(name, 'unset')}, was {before.get(name, 'unset')}" for name in names)
