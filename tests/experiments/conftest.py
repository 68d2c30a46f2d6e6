import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from tests.experiments.processes import PIPELINE, finish

ROOT = Path(experiments.__file__).parents[1]


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A directory that all processes of pytest share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def surroundings(shared):
    """Environment variables of started processes: all share one cache of compiled programs."""
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return quick | {"XDG_CACHE_HOME": str(shared / "cache")}


@pytest.fixture(scope="session")
def start(surroundings):
    """start(*arguments, **environment) -> a Python process."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def begin(*arguments, **environment):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.Popen(command, env=os.environ | surroundings | environment, cwd=ROOT, **pipes)

    return begin


@pytest.fixture(scope="session")
def whole(start, shared):
    """The output directory of an uninterrupted pipeline: the first test that needs it runs it, others wait."""
    out, output = shared / "whole", shared / "whole.txt"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            code, stdout, stderr = finish(start(*PIPELINE, out))
            assert (code, stderr) == (0, ""), stderr
            output.write_text(stdout)
    assert "test accuracy" in output.read_text()
    return out


@pytest.fixture
def begun(whole, tmp_path):
    """An experiment that lacks the wide_cnn, the student and all later stages."""
    out = tmp_path / "begun"
    (out / "members").mkdir(parents=True)
    shutil.copy(whole / "job.json", out)
    for member in ("resnet-0", "deep_cnn-0", "inception-0", "senet-0"):
        shutil.copytree(whole / "members" / member, out / "members" / member)
    return out
