import ctypes
import resource
import sys

import pytest

from jaxnets.devices import choose_devices


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_freed_memory_is_used_again():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        pytest.skip("not glibc")
    libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
    size = 2**27

    def use_and_free():
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        pointer = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        libc.memset(pointer, 1, ctypes.c_size_t(size))
        libc.free(pointer)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

    choose_devices(None)
    use_and_free()
    assert use_and_free() < size // resource.getpagesize() / 10
