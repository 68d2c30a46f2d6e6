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
def surroundings(tmp_path_factory):
    """The environment variables of processes of ours: all share one cache of compiled programs."""
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return quick | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def start(surroundings):
    """start(*arguments, **environment) -> a process of Python."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def begin(*arguments, **environment):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.Popen(command, env=os.environ | surroundings | environment, cwd=ROOT, **pipes)

    return begin


@pytest.fixture(scope="session")
def whole(start, tmp_path_factory):
    """The folder of a pipeline that nothing interrupted."""
    out = tmp_path_factory.mktemp("pipeline") / "whole"
    code, stdout, stderr = finish(start(*PIPELINE, out))
    assert (code, stderr) == (0, ""), stderr
    assert "test accuracy" in stdout
    return out


@pytest.fixture
def begun(whole, tmp_path):
    """A job with three members done."""
    out = tmp_path / "begun"
    (out / "members").mkdir(parents=True)
    shutil.copy(whole / "job.json", out)
    for member in ("resnet-0", "deep_cnn-0", "senet-0"):
        shutil.copytree(whole / "members" / member, out / "members" / member)
    return out
