"""Which devices work, and what lies on them. Every array that a device sees is placed here."""

import ctypes
import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.errors import InputError, brief

Devices = Sequence[jax.Device]

AXIS = "data"
"""The mapped axis over devices: every step runs under it, with one device as with many."""


def choose_devices(count: int | None) -> Devices:
    """The first `count` of all devices, of this process and of those that work with it; all unless a count is given.
    Every process has to take part, so several of them use all that there are."""
    keep_freed_memory()  # before XLA starts its threads
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where JAX lacks the plugin
        problem = f"there is no device of that kind ({brief(error)})"
        raise InputError("JAX_PLATFORMS", problem, "unset it, or see to the device") from error
    if count is None:
        return devices
    if jax.process_count() > 1:
        raise InputError("--devices", f"{count} asked for, of several processes", "leave it out: all are used")
    if not 1 <= count <= len(devices):
        kind = devices[0].platform
        fix = f"give 1 to {len(devices)}" if len(devices) > 1 else "give 1"
        if kind == "cpu" and count > 1:
            fix += f", or start with XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise InputError("--devices", f"{count} asked for, {len(devices)} of kind {kind} here", fix)
    return devices[:count]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Make glibc keep the memory that each step frees, instead of returning it to the system.

    XLA allocates temporary memory at every call. glibc maps an allocation of over 32 MB from the system and unmaps it
    afterwards, so every step of a large network met 20,000 page faults: a quarter to a half of its time on two cores.
    One arena for all threads, as the others hold 64 MB at most. Other C libraries have no such limit, or no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(parameter, value)


ONEDNN: dict[str, str | bool] = {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}


@cache
def supports_onednn() -> bool:
    """Whether this version of XLA takes the options; jax 0.10 does, and then makes nothing of them."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile(ONEDNN)
    except Exception:  # which error an unknown option raises differs from version to version
        return False
    return True


def compile_optimized(lowered: Any, devices: Devices) -> Any:
    """Compiles what will run for longer than it takes to compile: on a CPU with oneDNN's convolutions instead of
    Eigen's, with which jax 0.12 answers 1.1 to 1.4 times as fast and trains 1.0 to 1.15 times. Such a program cannot
    be kept in the compilation cache, so it is compiled at every start."""
    if devices[0].platform != "cpu" or not supports_onednn():
        return lowered.compile()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
        return lowered.compile(ONEDNN)


def default_precision(devices: Devices) -> str:
    """float32 on CPUs, bfloat16 where the hardware multiplies it (Ampere and later, TPUs), float16 on older GPUs."""
    device = devices[0]
    if device.platform == "cpu":
        return "float32"
    if device.platform == "gpu" and float(getattr(device, "compute_capability", 8.0)) < 8.0:
        return "float16"
    return "bfloat16"


def is_primary() -> bool:
    """Whether this process writes files and speaks: the first of those that work together does."""
    return jax.process_index() == 0


def check_same_everywhere(place: Path | str, facts: dict[str, Any]) -> None:
    """Waits for all processes; InputError, in each of them, unless all give the same `facts` (JSON)."""
    if jax.process_count() == 1:
        return
    names = sorted(facts)
    sums = [hashlib.sha256(json.dumps(facts[name], sort_keys=True).encode()).digest() for name in names]
    ours = np.array([np.frombuffer(one, np.int32) for one in sums])
    different = [name for name, same in zip(names, equal(ours), strict=True) if not same]
    if different:
        fix = "start all of them with the same options, data and results folder"
        raise InputError(place, f"is not the same to all processes: {' and '.join(different)}", fix)


def equal(rows: np.ndarray) -> np.ndarray:
    """rows (N, ...) -> (N,) bool: which rows all processes have alike."""
    alike = multihost_utils.process_allgather(rows) == rows
    return alike.all(axis=(0, *range(2, alike.ndim)))


def local_devices(devices: Devices) -> Devices:
    """Those that belong to this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def replicate(tree: Any, devices: Devices) -> Any:
    """One whole copy of every array on each device of this process. By way of NumPy: a copy that shared a buffer with
    the caller's array would delete it when donated."""
    return jax.device_put(jax.tree.map(np.asarray, tree), everywhere(devices))


def everywhere(devices: Devices) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(local_devices(devices)), (AXIS,)), PartitionSpec())


def is_replicated(tree: Any, devices: Devices) -> bool:
    """Whether every array lies on the devices as `replicate` puts it there."""
    sharding = everywhere(devices)
    return all(isinstance(leaf, jax.Array) and leaf.sharding == sharding for leaf in jax.tree.leaves(tree))


def share(rows: np.ndarray, devices: Devices) -> np.ndarray:
    """rows (..., B) -> (D', ..., B / D) for the D' of the D devices that are this process's: neighbours stay on one."""
    shares = np.split(rows, len(devices), axis=-1)
    mine = jax.process_index()
    return np.stack([rows for rows, device in zip(shares, devices, strict=True) if device.process_index == mine])
