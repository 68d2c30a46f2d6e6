import subprocess
import sys

import pytest

from jaxnets import devices

USE_AND_FREE = """
import ctypes, resource
from jaxnets.devices import choose_devices

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
size = 2**27

def page_faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pointer = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(pointer, 1, ctypes.c_size_t(size))
    libc.free(pointer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

choose_devices(None)
page_faults()
print(page_faults() / (size // resource.getpagesize()) if hasattr(libc, "gnu_get_libc_version") else 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_freed_memory_is_used_again():
    # A separate process: a thread that allocated before the limit was set keeps its arena, which holds 64 MB.
    done = subprocess.run([sys.executable, "-c", USE_AND_FREE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1


@pytest.mark.parametrize(
    ("name", "onednn", "expected"),
    [("avx512_bf16", True, "bfloat16"), ("avx512_bf16", False, "float32"), ("avx512f", True, "float32")],
)
def test_a_processor_computes_in_bfloat16_if_it_and_xla_can(monkeypatch, name, onednn, expected):
    monkeypatch.setattr(devices, "instruction_sets", lambda: {"flags", ":", name})
    monkeypatch.setattr(devices, "supports_onednn", lambda: onednn)
    assert devices.default_precision(devices.choose_devices(1)) == expected
