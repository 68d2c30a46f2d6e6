import os
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from experiments.cli.compilation_cache import use_cache
from jaxnets.errors import InputError

DAMAGE = """
import sys, warnings
from pathlib import Path
import jax
from experiments.cli.compilation_cache import use_cache

warnings.showwarning = lambda message, *rest: print(message)
folder = Path(sys.argv[1])
use_cache(folder)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
for _ in range(3):
    jax.clear_caches()
    jax.jit(lambda x: x + 1)(1.0)
    [path] = folder.glob("jit__lambda*")
    print(len(path.read_bytes()) > 100)
    if sys.argv[2:]:
        path.write_bytes(path.read_bytes()[:100])
        del sys.argv[2]
"""


def test_a_damaged_entry_is_replaced(tmp_path):
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "xla"), "damage it once"]
    root = Path(experiments.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    warning = f"{tmp_path}/xla: the entry of jit__lambda is damaged; it is compiled again"
    assert done.stdout.splitlines() == ["True", warning, "True", "True"]


@pytest.fixture
def configured(monkeypatch):
    """The settings that JAX would get."""
    found = {}
    monkeypatch.setattr("jax.config.update", found.__setitem__)
    monkeypatch.setattr("warnings.showwarning", lambda *rest: None)
    return found


def test_only_the_user_can_access_the_directory(configured, tmp_path):
    mask = os.umask(0)
    try:
        use_cache(tmp_path / "jaxnets" / "xla")
    finally:
        os.umask(mask)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "jaxnets", tmp_path / "jaxnets" / "xla")]
    assert modes == [0o700, 0o700]
    assert configured["jax_compilation_cache_dir"] == f"{tmp_path}/jaxnets/xla"


@pytest.mark.parametrize("name", ["jaxnets", "jaxnets/xla"])
@pytest.mark.parametrize("mode", [0o720, 0o702, None])
def test_a_directory_that_others_can_write_to_is_an_error(configured, tmp_path, monkeypatch, name, mode):
    use_cache(tmp_path / "jaxnets" / "xla")
    configured.clear()
    if mode is None:
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    else:
        (tmp_path / name).chmod(mode)
    with pytest.raises(InputError, match=r"can be written by other users, and compiled programs in it are run\. Fix: "):
        use_cache(tmp_path / "jaxnets" / "xla")
    assert configured == {}


def test_without_a_directory_the_cache_is_off(configured, tmp_path):
    (tmp_path / "jaxnets").touch()
    with pytest.warns(UserWarning, match=r"xla: cannot be made \(.*\), so programs are compiled at every start"):
        use_cache(tmp_path / "jaxnets" / "xla")
    assert configured == {}
