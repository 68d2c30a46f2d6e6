import os
import shlex
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tyro

from experiments.cli.exit_codes import Stopped
from experiments.cli.job import Hardware
from experiments.cli.options import Options
from experiments.cli.run_dir import Member, RunDir
from experiments.cluster.parallel_members import (
    STALL,
    check_exit,
    check_stall,
    divide_machine,
    is_faster_in_parallel,
    restricted_to,
    train_command,
)
from experiments.cluster.supervise import Exit, Stall
from experiments.train import TrainOptions
from jaxnets.recipes import preset as preset_of
from jaxnets.runs import open_run
from tests.experiments.processes import PIPELINE, TRAIN, finish, gone, signal_when, wait_for, workers_of

CPU = SimpleNamespace(platform="cpu")
GPUS = [SimpleNamespace(platform="gpu", local_hardware_id=number) for number in (0, 1)]
CORES = frozenset(sorted(os.sched_getaffinity(0))[:2])


@pytest.fixture
def start_on_two_cores(start):
    """start_on_two_cores(*command) -> a process that is restricted to two cores."""

    def begin(*command):
        with restricted_to(CORES):
            return start(*command)

    return begin


@pytest.fixture
def pipeline(start_on_two_cores):
    """pipeline(out) -> a pipeline that trains one model on each of two cores."""
    return lambda out: start_on_two_cores(*PIPELINE, out, "--students", "--parallel", "members")


@pytest.fixture
def begun(begun):
    """An experiment that lacks two models."""
    shutil.rmtree(begun / "members" / "inception-0")
    return begun


def job_on(devices, **attributes):
    """An experiment on these devices, as far as the division of the machine depends on it."""
    return SimpleNamespace(hardware=Hardware(devices=devices, precision="float32"), **attributes)


def leaves(folder):
    run = open_run(folder)
    return jax.tree.leaves((run.params, run.stats))


@pytest.mark.slow
def test_killed_and_stopped_workers_train_the_same_models_as_one_process(
    start, start_on_two_cores, pipeline, begun, tmp_path
):
    first, second = (begun / "members" / f".{name}-0.unfinished" / "state" for name in ("wide_cnn", "inception"))

    process = pipeline(begun)
    assert wait_for(first, process)
    workers = workers_of(process)
    process.kill()
    finish(process)
    while not all(map(gone, workers)):  # only the parent-death pipe ends them
        pass
    shutil.rmtree(begun / "members" / "inception-0", ignore_errors=True)  # it may have been the faster one

    code, stderr = signal_when(pipeline(begun), second, signal.SIGTERM)
    message, command = stderr.splitlines()
    assert (code, message) == (143, "stopped: what was saved is kept; continue with")
    assert second.exists()
    code, stdout, stderr = finish(start_on_two_cores(*shlex.split(command)[1:]))
    assert (code, stderr) == (0, "")
    assert stdout.count("results in") == 1  # only the pipeline prints it

    with restricted_to(frozenset([min(CORES)])):
        single = start(*TRAIN, tmp_path / "single")
    assert finish(single)[0] == 0
    in_parallel, in_one_process = (leaves(out / "members" / "wide_cnn-0") for out in (begun, tmp_path / "single"))
    for one, other in zip(in_parallel, in_one_process, strict=True):
        np.testing.assert_array_equal(one, other)


def test_if_one_worker_is_lost_the_others_save_and_end(pipeline, begun):
    process = pipeline(begun)
    for name in ("wide_cnn", "inception"):
        assert wait_for(begun / "members" / f".{name}-0.unfinished" / "state", process)
    workers = workers_of(process)
    os.kill(workers[0], signal.SIGKILL)
    code, _, stderr = finish(process)
    assert code == 75
    assert stderr.splitlines()[-1].endswith("was ended by signal SIGKILL. Fix: run the same command again.")
    assert all(map(gone, workers))
    assert len(list(begun.rglob("*.lock"))) <= 1  # that of the killed worker, unless it had just released it


@pytest.mark.parametrize(("code", "ends"), [(0, None), (2, 2), (3, 3), (-signal.SIGKILL, 75), (-40, 75)])
def test_a_worker_ends_the_program_with_its_own_code(code, ends):
    with pytest.raises(SystemExit) if ends else nullcontext() as ended:
        check_exit(Exit("senet-0", code))
    assert ends is None or ended.value.code == ends


def test_a_worker_that_was_stopped_stops_the_program():
    with pytest.raises(Stopped):
        check_exit(Exit("senet-0", 128 + signal.SIGTERM))


@pytest.mark.parametrize(
    ("cores", "models", "sizes"),
    [(1, 5, [1]), (2, 5, [1, 1]), (7, 5, [2, 2, 2]), (8, 5, [2] * 4), (8, 1, [8]), (8, 15, [1] * 8)],
)
def test_cores_are_divided_equally(monkeypatch, cores, models, sizes):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    shares = divide_machine(job_on(jax.devices()[:1]), models)
    assert [len(share.cores) for share in shares] == sizes
    assert len(frozenset().union(*(share.cores for share in shares))) == sum(sizes)


def test_a_stalled_worker_ends_the_program(capsys):
    check_stall(None)
    with pytest.raises(SystemExit) as ended:
        check_stall(Stall("senet-0", STALL))
    assert ended.value.code == 75
    assert capsys.readouterr().err.startswith("error: senet-0 has not finished a step for 300 s. ")


@pytest.mark.parametrize(
    ("preset", "devices", "cores", "faster"),
    [
        ("standard", [CPU], 2, True),
        ("quick", [CPU], 2, False),  # too short
        ("standard", [CPU], 1, False),  # nothing to divide
        ("standard", [CPU] * 2, 2, False),  # the user wants both for each model
        ("standard", GPUS[:1], 2, False),  # not measured there
    ],
)
def test_long_trainings_on_several_cores_are_faster_in_parallel(monkeypatch, preset, devices, cores, faster):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    recipes = preset_of(preset)
    rows = SimpleNamespace(train_rows=range(57_000))
    job = job_on(devices, preset=recipes, data=rows, teachers=lambda: recipes.recipes)
    assert is_faster_in_parallel(job) is faster


def test_each_accelerator_is_a_share():
    assert [share.accelerator for share in divide_machine(job_on(GPUS), 5)] == [0, 1]


def test_a_worker_gets_a_preset_that_the_command_line_accepts():
    """A changed preset has another name, which is no choice of --preset."""
    job = SimpleNamespace(run_dir=RunDir(Path("out")), preset=SimpleNamespace(name="smoke-123456"))
    _, _, _, *arguments = train_command(Member("senet", 1, student=True), job, Options(sizes={"width": 4}))
    assert tyro.cli(TrainOptions, args=arguments) == TrainOptions(
        family="senet", network_seed=1, student=True, sizes={"width": 4}, out=Path("out"), devices=1
    )


def test_parallel_members_need_a_single_process(start, tmp_path):
    code, _, stderr = finish(start(*PIPELINE, tmp_path, "--parallel", "members", "--distributed"))
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: --parallel: members needs a single process")
