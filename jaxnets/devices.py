"""Which devices compute, and how arrays are placed on them."""

import ctypes
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.compilation import supports_onednn
from jaxnets.errors import InputError, short_message
from jaxnets.processor import instruction_sets

Devices = Sequence[jax.Device]

AXIS = "data"
"""Name of the mapped axis over devices; every step runs under it, with one device too."""


def choose_devices(count: int | None) -> Devices:
    """Return the first `count` devices of all processes, all of them if `count` is None.

    Raises InputError if there are fewer, or if several processes are given a count: each of them has to take part.
    """
    keep_freed_memory()  # before XLA starts its threads
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter if JAX lacks the plugin
        problem = f"there is no device of that kind ({short_message(error)})"
        raise InputError("JAX_PLATFORMS", problem, "unset it, or check the device") from error
    if count is None:
        return devices
    if jax.process_count() > 1:
        raise InputError("devices", f"{count} requested by several processes", "leave it out: all devices are used")
    if not 1 <= count <= len(devices):
        kind = devices[0].platform
        fix = f"give 1 to {len(devices)}" if len(devices) > 1 else "give 1"
        if kind == "cpu" and count > 1:
            fix += f", or start with XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise InputError("devices", f"{count} requested, {len(devices)} of kind {kind} available", fix)
    return devices[:count]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt, from glibc's malloc.h."""


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


def default_precision(devices: Devices) -> str:
    """Return bfloat16 if the hardware multiplies it (GPUs from Ampere on, TPUs, CPUs with avx512_bf16 or AMX and
    oneDNN), float16 on older GPUs, float32 on other CPUs.

    With oneDNN, bfloat16 trains 1.1 to 1.7 times as fast as float32 at full resolution. In trainings too short for
    `compile_optimized` it is slower, by up to a fifth, which costs seconds.
    """
    device = devices[0]
    if device.platform == "cpu":
        return "bfloat16" if instruction_sets() & {"avx512_bf16", "amx_bf16"} and supports_onednn() else "float32"
    if device.platform == "gpu" and float(getattr(device, "compute_capability", 8.0)) < 8.0:
        return "float16"
    return "bfloat16"


def target_platform() -> str:
    """Return the platform that is compiled for: that of `jax.default_device` if it is set."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    return jax.default_backend() if device is None else getattr(device, "platform", device)


def is_primary() -> bool:
    """Return True in process 0, which writes files and prints."""
    return jax.process_index() == 0


def check_same_everywhere(place: Path | str, facts: dict[str, Any]) -> None:
    """Wait for all processes; raise InputError in each of them unless all pass the same `facts` (JSON)."""
    if jax.process_count() == 1:
        return
    names = sorted(facts)
    digests = [hashlib.sha256(json.dumps(facts[name], sort_keys=True).encode()).digest() for name in names]
    rows = np.array([np.frombuffer(digest, np.int32) for digest in digests])
    equal = (multihost_utils.process_allgather(rows) == rows).all(axis=(0, 2))
    different = [name for name, same in zip(names, equal, strict=True) if not same]
    if different:
        fix = "start all of them with the same options, data and results folder"
        raise InputError(place, f"differs between the processes: {' and '.join(different)}", fix)


def local_devices(devices: Devices) -> Devices:
    """Return the devices that belong to this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def replicate(tree: Any, devices: Devices) -> Any:
    """Copy every array of a tree to each device of this process. The copies are made by way of NumPy: a copy that
    shared its buffer with the caller's array would delete that array when it is donated."""
    return jax.device_put(jax.tree.map(np.asarray, tree), replicated_sharding(devices))


def replicated_sharding(devices: Devices) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(local_devices(devices)), (AXIS,)), PartitionSpec())


def is_replicated(tree: Any, devices: Devices) -> bool:
    """Return True if every array of the tree lies on the devices as `replicate` places it."""
    sharding = replicated_sharding(devices)
    return all(isinstance(leaf, jax.Array) and leaf.sharding == sharding for leaf in jax.tree.leaves(tree))


def shard_rows(rows: np.ndarray, devices: Devices) -> np.ndarray:
    """Divide the last axis among D devices: rows (..., B) -> (D', ..., B / D) for the D' devices of this process.

    Consecutive rows stay on one device.
    """
    shards = np.split(rows, len(devices), axis=-1)
    mine = jax.process_index()
    return np.stack([shard for shard, device in zip(shards, devices, strict=True) if device.process_index == mine])
