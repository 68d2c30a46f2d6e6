"""What this machine's processor can do, without JAX."""

import os
from pathlib import Path


def instruction_sets() -> set[str]:
    """Return the names of the processor's optional instruction sets on Linux, such as `avx512_bf16`; else none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())


def processors() -> int:
    """Return the number of CPUs that this process may use: XLA divides its sums among them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
