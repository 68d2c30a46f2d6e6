import json
import os
import re
import signal
import socket
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from experiments import ensemble, evaluate, predict, pseudo_label
from experiments.cli.distributed import synchronized_stop
from experiments.cli.options import Options
from experiments.cluster.launch import GRACE, stalled, watch
from jaxnets.errors import InputError
from jaxnets.runs import open_run
from jaxnets.store.checkpoint import steps
from tests.experiments.processes import TRAIN, finish, gone, wait_for, workers_of

STEPS = 40  # an epoch


def launch(*options):
    return "-m", "experiments.cluster.launch", "--processes", "2", *options, "--", sys.executable


@pytest.fixture(scope="module")
def on_two_devices(start, tmp_path_factory):
    """The folder of a job that one process trained on two devices."""
    out = tmp_path_factory.mktemp("one") / "job"
    code, _, stderr = finish(start(*TRAIN, out, XLA_FLAGS="--xla_force_host_platform_device_count=2"))
    assert (code, stderr) == (0, "")
    return out


def assert_same_network(out, other, tolerance=1e-5):
    ours, others = (jax.tree.leaves(open_run(folder / "members" / "wide_cnn-0")[2:]) for folder in (out, other))
    for one, another in zip(ours, others, strict=True):
        np.testing.assert_allclose(one, another, rtol=tolerance, atol=tolerance)


def begun(start, out, epochs, *options):
    """-> the launcher of a job that has so many epochs, and its two workers."""
    process = start(*launch(*options), *TRAIN, out)
    wait_for(out / "members" / ".wide_cnn-0.unfinished" / "state" / str(epochs * STEPS), process)
    workers = workers_of(process)
    assert len(workers) == 2
    return process, workers


def test_two_processes_train_the_network_that_one_does(start, on_two_devices, tmp_path):
    code, stdout, stderr = finish(start(*launch(), *TRAIN, tmp_path))
    assert (code, stderr) == (0, "")
    assert stdout.count("epoch  4.0/4") == stdout.count("trained, 4 epochs") == 1  # the first process alone speaks
    assert "hosts" in json.loads((tmp_path / "job.json").read_text())["fingerprint"]
    assert_same_network(tmp_path, on_two_devices)


def test_a_lost_process_ends_all_and_fewer_go_on(start, on_two_devices, tmp_path):
    losses = {signal.SIGKILL: "ended with signal SIGKILL", signal.SIGSTOP: "has not finished a step for 10 s"}
    for epochs, (number, words) in enumerate(losses.items(), start=1):
        process, workers = begun(start, tmp_path, epochs, "--stall", "10")
        os.kill(workers[1], number)
        code, _, stderr = finish(process)
        assert code == 75
        told, command = [line for line in stderr.splitlines() if line][-2:]
        assert told == f"launch: process 1 {words}; all have ended. What was saved is kept; go on with"
        assert command.endswith(f"--out {tmp_path}")
        assert all(map(gone, workers))
    code, _, stderr = finish(start(*TRAIN, tmp_path))
    assert code == 0
    assert "the bits may differ" in stderr
    # Sums over the batch are rounded otherwise, and steps enlarge that; other rows in two of the four epochs make 0.08.
    assert_same_network(tmp_path, on_two_devices, tolerance=1e-3)


def test_told_to_stop_they_stop_at_the_same_step(start, on_two_devices, tmp_path):
    process, workers = begun(start, tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    code, _, stderr = finish(process)
    assert code == 143
    told, command = stderr.splitlines()[-2:]
    assert told == "stopped: what was saved is kept; go on with"
    assert all(map(gone, workers))
    assert steps(tmp_path / "members" / ".wide_cnn-0.unfinished" / "state")[-1] > STEPS
    code, _, stderr = finish(start(*command.split()[1:]))
    assert (code, stderr) == (0, "")
    assert_same_network(tmp_path, on_two_devices)


STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")  # print writes the end of the line by itself, and another process may come between
while True:
    signal.pause()
"""


def test_a_second_signal_does_not_wait_for_those_that_do_not_listen(start):
    process = start(*launch(), "-c", STUBBORN)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    workers = workers_of(process)
    for number in (signal.SIGTERM, signal.SIGINT):  # two of a kind could arrive as one
        process.send_signal(number)
    assert process.wait(GRACE / 2) in (143, 130)
    assert all(map(gone, workers))
    finish(process)


def test_a_mistake_is_told_with_its_own_code(start, tmp_path):
    code, _, stderr = finish(start(*launch(), *TRAIN, tmp_path, "--data", "nowhere.npz"))
    assert code == 2
    assert "error: nowhere.npz" in stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((*launch()[:-2],), "no command is given"),
        ((*launch("--processes", "0"), "-c", "pass"), "--processes: is 0"),
        ((*TRAIN, "out", "--processes", "2"), "needs --processes and --process-id"),
    ],
)
def test_what_cannot_be_launched_is_refused(start, command, words):
    code, _, stderr = finish(start(*command))
    assert (code, stderr.count("\n")) == (2, 1)
    assert words in stderr


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", 75, f"signal {signal.SIGRTMIN + 6}"),
        ("sys.exit(141)", 141, "exit code 141"),  # nobody reads its output
    ],
)
def test_the_end_of_any_program_is_reported(start, program, code, words):
    ended, _, stderr = finish(start(*launch(), "-c", f"import os, signal, sys; {program}"))
    assert ended == code
    assert re.match(f"launch: process [01] ended with {words}; all have ended", stderr)


SCRIPT = """
import os, subprocess, sys, threading
from experiments.cli import exit_codes

if sys.argv[1] == "script":  # it leaves the variable to both of its programs
    for number, stdin in enumerate((subprocess.DEVNULL, None)):  # DEVNULL is what a shell gives background jobs
        subprocess.run([sys.executable, "-c", os.environ["PROGRAM"], str(number)], stdin=stdin, check=True)
else:
    with exit_codes.in_one_line(resumes=True):
        print(sys.argv[1], exit_codes.heartbeat is not None, exit_codes.PULSE in os.environ, flush=True)
        for thread in [] if int(sys.argv[1]) else threading.enumerate()[1:]:
            thread.join()
"""


def test_a_background_job_of_a_launched_script_is_not_supervised(start):
    process = start(*launch("--processes", "1"), "-c", SCRIPT, "script", PROGRAM=SCRIPT)
    assert finish(process) == (0, "0 False False\n1 True False\n", "")


def test_what_cannot_begin_is_not_to_be_started_again(start):
    code, _, stderr = finish(start(*launch(), "-m", "experiments.pipelin"))
    assert code == 1
    assert re.fullmatch(
        "launch: process [01] ended with exit code 1, see above; all have ended", stderr.splitlines()[-1]
    )


def test_the_process_that_stalls_is_named(tmp_path):
    seen = {}
    for name, changed in (("0", 5), ("1", 3)):  # the system's clock may say what it likes
        (tmp_path / name).write_text("epoch 1")
        os.utime(tmp_path / name, (changed, changed))
    assert stalled(tmp_path, seen, 60, 0.0) is None
    assert stalled(tmp_path, seen, 60, 59.0) is None
    os.utime(tmp_path / "0", (1, 1))
    assert stalled(tmp_path, seen, 60, 61.0) == ("1", 60)
    (tmp_path / "1").unlink()
    assert stalled(tmp_path, seen, 60, 61.0) is None
    assert stalled(tmp_path, seen, 60, 122.0) == ("0", 60)
    (tmp_path / "0").write_text("")  # it predicts
    assert stalled(tmp_path, seen, 60, 122.0) is None
    assert stalled(tmp_path, seen, 60, 722.0) is None
    assert stalled(tmp_path, seen, 60, 723.0) == ("0", 600)


@pytest.mark.parametrize(("sleeps", "code"), [([0.1] * 100 + [3600] + [0.1] * 100, 0), ([0.1] * 700, 75)])
def test_time_in_which_the_launcher_itself_was_stopped_does_not_count(tmp_path, monkeypatch, sleeps, code):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda _: now.append(now.pop() + sleeps.pop()))
    (tmp_path / "0").write_text("epoch 1")
    worker = SimpleNamespace(poll=lambda: None if sleeps else 0)
    assert watch([worker], tmp_path, 60)[0] == code


SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "a",
}
ASK = """
import socket, sys, jax
from experiments.cli.distributed import join
join(f"127.0.0.1:{sys.argv[1]}", 1, 0)
print("visible", jax.config.values["jax_cuda_visible_devices"])
for host in ("127.0.0.1", "127.0.0.2"):
    print(host, "refused" if socket.socket().connect_ex((host, int(sys.argv[1]))) else "let in")
"""


@pytest.fixture
def port():
    """A free one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


def test_who_names_the_coordinator_sees_all_devices_under_slurm_too_and_lets_nobody_else_in(start, port):
    code, stdout, stderr = finish(start("-c", ASK, port, **SLURM))
    assert (code, stdout) == (0, "visible all\n127.0.0.1 let in\n127.0.0.2 refused\n"), stderr


def test_processes_that_are_told_different_things_are_refused(start, port, tmp_path):
    where = "--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id"
    both = [start(*TRAIN, tmp_path, *where, str(number), "--seed", str(number)) for number in range(2)]
    for process in both:
        code, _, stderr = finish(process)
        assert code == 2
        assert f"error: {tmp_path}: is not the same to all processes: seed. Fix: start all" in stderr
    assert not any(tmp_path.iterdir())


def test_each_process_tells_the_others_of_a_ctrl_c_once(monkeypatch):
    received, told = [], []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
    monkeypatch.setattr(os, "kill", lambda process, number: told.append((process, number)))
    stopping = synchronized_stop(lambda: bool(received))
    assert not stopping()
    received.append(signal.SIGINT)
    assert [stopping() for _ in range(3)] == [False, True, True]
    assert told == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (predict.main, Options),
        (pseudo_label.main, Options),
        (ensemble.main, ensemble.EnsembleOptions),
        (evaluate.main, evaluate.EvaluateOptions),
    ],
)
def test_what_one_process_writes_is_not_for_several(tmp_path, main, options):
    with pytest.raises(InputError, match="only the pipeline and train are for several processes"):
        main(options(data="digits", preset="smoke", out=tmp_path, coordinator="h:1", processes=2, process_id=0))
    assert not any(tmp_path.iterdir())
