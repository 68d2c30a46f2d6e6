import os
import sys
from pathlib import Path

import pytest

from jaxnets.errors import InputError
from jaxnets.store.bounded import read_bytes


def test_a_file_of_exactly_the_limit_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "file", limit=10) == b"0123456789"
    with pytest.raises(InputError, match="is larger than 9 bytes"):
        read_bytes(tmp_path / "file", limit=9)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_limit_applies_to_files_without_a_size():
    with pytest.raises(InputError, match="is larger than 10 bytes"):
        read_bytes(Path("/proc/self/status"), limit=10)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "zeros"])
def test_pipes_and_devices_are_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a pipe or a device"):
        read_bytes(tmp_path / path, limit=10)
