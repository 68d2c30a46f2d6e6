import os
import shlex
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tyro

from experiments.cli.exit_codes import Stopped
from experiments.cli.options import Options
from experiments.cluster.launch import Stall
from experiments.cluster.parallel_members import (
    STALL,
    Share,
    Worker,
    check_exit,
    check_stall,
    flags,
    is_faster_in_parallel,
    only,
    shares,
)
from jaxnets.recipes import preset as preset_of
from jaxnets.runs import open_run
from tests.experiments.processes import PIPELINE, TRAIN, finish, gone, signal_when, wait_for, workers_of

CORES = frozenset(sorted(os.sched_getaffinity(0))[:2])


@pytest.fixture
def apart(start):
    """apart(out) -> a pipeline that trains on each of two cores."""

    def begin(*command):
        with only(CORES):
            return start(*(command or PIPELINE))

    return lambda out: begin(*PIPELINE, out, "--students", "--parallel", "members"), begin


@pytest.fixture
def begun(begun):
    """A job that lacks two networks."""
    shutil.rmtree(begun / "members" / "inception-0")
    return begun


def leaves(network):
    run = open_run(network)
    return jax.tree.leaves((run.params, run.stats))


def test_killed_and_stopped_they_train_what_one_trains_alone(start, apart, begun, tmp_path):
    pipeline, again = apart
    first, second = (begun / "members" / f".{name}-0.unfinished" / "state" for name in ("wide_cnn", "inception"))

    process = pipeline(begun)
    assert wait_for(first, process)
    workers = workers_of(process)
    process.kill()
    finish(process)
    while not all(map(gone, workers)):  # nobody told them but their leash
        pass
    shutil.rmtree(begun / "members" / "inception-0", ignore_errors=True)  # it may have been the quicker one

    code, stderr = signal_when(pipeline(begun), second, signal.SIGTERM)
    told, command = stderr.splitlines()
    assert (code, told) == (143, "stopped: what was saved is kept; go on with")
    assert second.exists()
    code, stdout, stderr = finish(again(*shlex.split(command)[1:]))
    assert (code, stderr) == (0, "")
    assert stdout.count("results in") == 1  # the workers leave that to the one that started them

    with only(frozenset([min(CORES)])):
        alone = start(*TRAIN, tmp_path / "alone")
    assert finish(alone)[0] == 0
    for one, other in zip(
        *(leaves(out / "members" / "wide_cnn-0") for out in (begun, tmp_path / "alone")), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_where_one_is_lost_the_others_save_and_end(apart, begun):
    pipeline, _ = apart
    process = pipeline(begun)
    for name in ("wide_cnn", "inception"):
        assert wait_for(begun / "members" / f".{name}-0.unfinished" / "state", process)
    workers = workers_of(process)
    os.kill(workers[0], signal.SIGKILL)
    code, _, stderr = finish(process)
    assert code == 75
    assert stderr.splitlines()[-1].endswith("was ended by signal SIGKILL. Fix: start the same again.")
    assert all(map(gone, workers))
    assert len(list(begun.rglob("*.lock"))) <= 1  # of the one that was killed, unless it had just let go


@pytest.mark.parametrize(("code", "ends"), [(0, None), (2, 2), (3, 3), (-signal.SIGKILL, 75), (-40, 75)])
def test_a_worker_ends_the_program_with_its_own_code(code, ends):
    worker = Worker("senet-0", Share(frozenset(), None), SimpleNamespace(returncode=code))
    if ends is None:
        check_exit(worker)
        return
    with pytest.raises(SystemExit) as ended:
        check_exit(worker)
    assert ended.value.code == ends


def test_a_worker_that_was_stopped_stops_the_program():
    with pytest.raises(Stopped):
        check_exit(Worker("senet-0", Share(frozenset(), None), SimpleNamespace(returncode=128 + signal.SIGTERM)))


@pytest.mark.parametrize(
    ("cores", "networks", "sizes"),
    [(1, 5, [1]), (2, 5, [1, 1]), (7, 5, [2, 2, 2]), (8, 5, [2] * 4), (8, 1, [8]), (8, 15, [1] * 8)],
)
def test_cores_are_shared_equally(monkeypatch, cores, networks, sizes):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    given = shares(SimpleNamespace(devices=jax.devices()[:1]), networks)
    assert [len(share.cores) for share in given] == sizes
    assert len(frozenset().union(*(share.cores for share in given))) == sum(sizes)


def test_a_worker_that_stands_still_ends_the_program(capsys):
    check_stall(None)
    with pytest.raises(SystemExit) as ended:
        check_stall(Stall("senet-0", STALL))
    assert ended.value.code == 75
    assert capsys.readouterr().err.startswith("error: senet-0 has not finished a step for 300 s. ")


CPU, GPU = (SimpleNamespace(platform=platform) for platform in ("cpu", "gpu"))


@pytest.mark.parametrize(
    ("preset", "devices", "cores", "quicker"),
    [
        ("standard", [CPU], 2, True),
        ("quick", [CPU], 2, False),  # too short
        ("standard", [CPU], 1, False),  # nothing to share
        ("standard", [CPU] * 2, 2, False),  # somebody wants all of them for each
        ("standard", [GPU], 2, False),  # not measured there
    ],
)
def test_long_trainings_on_several_cores_are_quicker_apart(monkeypatch, preset, devices, cores, quicker):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    recipes = preset_of(preset)
    job = SimpleNamespace(preset=recipes, devices=devices, train_rows=range(57_000), teachers=lambda: recipes.recipes)
    assert is_faster_in_parallel(job) is quicker


def test_each_accelerator_is_a_share():
    devices = [SimpleNamespace(platform="gpu", local_hardware_id=number) for number in (0, 1)]
    assert [share.accelerator for share in shares(SimpleNamespace(devices=devices), 5)] == [0, 1]


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(tensorboard=True, quiet=True),
        Options(out=Path("a b"), seed=3, seeds=2, students=("senet", "resnet"), resume=False, precision="float32"),
    ],
)
def test_options_survive_the_command_line(options):
    assert tyro.cli(Options, args=flags(options)) == options


def test_no_students_are_said_too():
    assert tyro.cli(Options, args=flags(Options(students=()))).students == ()


def test_several_machines_do_not_train_members_apart(start, tmp_path):
    code, _, stderr = finish(start(*PIPELINE, tmp_path, "--parallel", "members", "--distributed"))
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: --parallel: members is for one process alone")
