"""Accelerators that programs are compiled for without having them: their public figures, and a device that JAX compiles
for. XLA needs the CUDA plugin or libtpu for this, but neither a device nor a driver."""

import os
from importlib.util import find_spec
from typing import Any, NamedTuple

from jaxnets.devices import Devices, default_precision


class Gpu(NamedTuple):
    """A GPU's public figures; rates per second. `peaks` are those of dense products by precision, `link` is the
    bandwidth between two GPUs of a host in each direction."""

    name: str
    capability: tuple[int, int]
    cores: int
    fpus_per_core: int
    threads_per_core: int
    shared_per_block: int
    shared_per_core: int
    l2_bytes: int
    clock_ghz: float
    memory: int
    bandwidth: float
    peaks: dict[str, float]
    link: float

    def description(self) -> str:
        """XLA's text form of the device (GpuTargetConfigProto)."""
        major, minor = self.capability
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
              shared_memory_per_core: {self.shared_per_core} threads_per_core_limit: {self.threads_per_core}
              core_count: {self.cores} fpus_per_core: {self.fpus_per_core} block_dim_limit_x: 2147483647
              block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {round(self.bandwidth)}
              l2_cache_size: {self.l2_bytes} clock_rate_ghz: {self.clock_ghz} device_memory_size: {self.memory}
              shared_memory_per_block_optin: {self.shared_per_block}
              cuda_compute_capability {{ major: {major} minor: {minor} }}
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
            }}
            platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 }}
            device_description_str: "{self.name}" """


class Tpu(NamedTuple):
    """A TPU's public figures, as those of a `Gpu`; `topology` is libtpu's name of the chips that are connected."""

    name: str
    topology: str
    memory: int
    bandwidth: float
    peaks: dict[str, float]
    link: float


H100 = Gpu(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    cores=132,
    fpus_per_core=128,
    threads_per_core=2048,
    shared_per_block=232448,
    shared_per_core=233472,
    l2_bytes=52428800,
    clock_ghz=1.98,
    memory=84929347584,
    bandwidth=3.35232e12,
    peaks={"float32": 67e12, "bfloat16": 989e12, "float16": 989e12},
    link=450e9,
)
T4 = Gpu(
    name="Tesla T4",
    capability=(7, 5),
    cores=40,
    fpus_per_core=64,
    threads_per_core=1024,
    shared_per_block=65536,
    shared_per_core=65536,
    l2_bytes=4194304,
    clock_ghz=1.59,
    memory=15843721216,
    bandwidth=320e9,
    peaks={"float32": 8.1e12, "float16": 65e12},
    link=10e9,
)
V5E = Tpu(
    name="TPU v5 lite",
    topology="v5e:2x2",
    memory=17179869184,
    bandwidth=819e9,
    peaks={"bfloat16": 197e12},
    link=50e9,
)
TARGETS: dict[str, tuple[Gpu | Tpu, int]] = {
    "h100x1": (H100, 1),
    "h100x2": (H100, 2),
    "h100x8": (H100, 8),
    "t4x1": (T4, 1),
    "t4x2": (T4, 2),
    "v5ex4": (V5E, 4),
}


NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Environment variables without which libtpu asks Google's cloud about a machine that has no TPU."""


class Target(NamedTuple):
    """What is compiled for: some chips of one kind in one host, and the dtype of the computation."""

    chip: Gpu | Tpu
    devices: Devices
    precision: str


def missing_extra(chip: Gpu | Tpu) -> str | None:
    """Return the extra that installs the compiler for a chip, unless it is installed."""
    module, extra = ("libtpu", "tpu") if isinstance(chip, Tpu) else ("jax_cuda13_plugin", "cuda13")
    return None if find_spec(module) else extra


def open_target(name: str, precision: str) -> Target:
    """Return a target, whose devices exist for the compiler only; precision auto is the chip's best."""
    import jax
    from jax.experimental import topologies

    chip, count = TARGETS[name]
    if isinstance(chip, Tpu):
        if jax.default_backend() != "tpu":
            os.environ.update(NO_TPU)
        topology = topologies.get_topology_desc(platform="tpu", topology_name=chip.topology)
    else:
        options: dict[str, Any] = {"target_config": chip.description(), "topology": f"1x1x{count}"}
        topology = topologies.get_topology_desc(platform="cuda", **options)
    devices = list(topology.devices)
    return Target(chip, devices, default_precision(devices) if precision == "auto" else precision)
