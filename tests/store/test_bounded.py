import os
import sys
from pathlib import Path

import pytest

from jaxnets.errors import InputError
from jaxnets.store.bounded import read_bytes


def test_a_file_of_just_the_limit_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "file", limit=10) == b"0123456789"
    with pytest.raises(InputError, match="is larger than 9 bytes"):
        read_bytes(tmp_path / "file", limit=9)


@pytest.mark.skipif(sys.platform != "linux", reason="the others have no /proc")
def test_a_file_that_has_no_size_is_bounded_too():
    with pytest.raises(InputError, match="is larger than 10 bytes"):
        read_bytes(Path("/proc/self/status"), limit=10)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "zeros"])
def test_what_never_ends_is_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a pipe or a device"):
        read_bytes(tmp_path / path, limit=10)
