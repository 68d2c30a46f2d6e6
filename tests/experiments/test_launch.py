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
from experiments.cluster.launch import watch
from experiments.cluster.supervise import GRACE, Supervisor
from jaxnets.errors import InputError
from jaxnets.runs import open_run
from jaxnets.store.checkpoint import saved_steps
from tests.experiments import processes
from tests.experiments.processes import finish, gone, wait_for, workers_of

# Models that different numbers of devices train are compared; in bfloat16 they differ too much.
TRAIN = (*processes.TRAIN[:-1], "--precision", "float32", "--out")

STEPS = 40  # per epoch


def launch(*options):
    return "-m", "experiments.cluster.launch", "--processes", "2", *options, "--", sys.executable


@pytest.fixture(scope="module")
def on_two_devices(start, tmp_path_factory):
    """The output directory of a training by one process on two devices."""
    out = tmp_path_factory.mktemp("one") / "job"
    code, _, stderr = finish(start(*TRAIN, out, XLA_FLAGS="--xla_force_host_platform_device_count=2"))
    assert (code, stderr) == (0, "")
    return out


def assert_same_model(out, other, tolerance=1e-5):
    ours, others = (jax.tree.leaves(open_run(folder / "members" / "wide_cnn-0")[2:]) for folder in (out, other))
    for one, another in zip(ours, others, strict=True):
        np.testing.assert_allclose(one, another, rtol=tolerance, atol=tolerance)


def start_training(start, out, epochs, *options):
    """Launch a training and wait for that epoch -> the launcher and its two workers."""
    process = start(*launch(*options), *TRAIN, out)
    wait_for(out / "members" / ".wide_cnn-0.unfinished" / "state" / str(epochs * STEPS), process)
    workers = workers_of(process)
    assert len(workers) == 2
    return process, workers


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(start, on_two_devices, tmp_path):
    code, stdout, stderr = finish(start(*launch(), *TRAIN, tmp_path))
    assert (code, stderr) == (0, "")
    assert stdout.count("epoch  4.0/4") == stdout.count("trained, 4 epochs") == 1  # only the first process prints
    assert "hosts" in json.loads((tmp_path / "job.json").read_text())["fingerprint"]
    assert_same_model(tmp_path, on_two_devices)


@pytest.mark.slow
def test_a_lost_process_ends_all_and_one_process_continues(start, on_two_devices, tmp_path):
    losses = {signal.SIGKILL: "ended with signal SIGKILL", signal.SIGSTOP: "has not finished a step for 10 s"}
    for epochs, (number, words) in enumerate(losses.items(), start=1):
        process, workers = start_training(start, tmp_path, epochs, "--stall", "10")
        os.kill(workers[1], number)
        code, _, stderr = finish(process)
        assert code == 75
        message, command = [line for line in stderr.splitlines() if line][-2:]
        assert message == f"launch: process 1 {words}; all have ended. What was saved is kept; continue with"
        assert command.endswith(f"--out {tmp_path}")
        assert all(map(gone, workers))
    code, _, stderr = finish(start(*TRAIN, tmp_path))
    assert code == 0
    assert "the bits may differ" in stderr
    # Sums over the batch are rounded differently, and every step enlarges that. Wrong rows in two epochs make 0.08.
    assert_same_model(tmp_path, on_two_devices, tolerance=1e-3)


@pytest.mark.slow
def test_a_signal_stops_all_processes_at_the_same_step(start, on_two_devices, tmp_path):
    process, workers = start_training(start, tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    code, _, stderr = finish(process)
    assert code == 143
    message, command = stderr.splitlines()[-2:]
    assert message == "stopped: what was saved is kept; continue with"
    assert all(map(gone, workers))
    assert saved_steps(tmp_path / "members" / ".wide_cnn-0.unfinished" / "state")[-1] > STEPS
    code, _, stderr = finish(start(*command.split()[1:]))
    assert (code, stderr) == (0, "")
    assert_same_model(tmp_path, on_two_devices)


STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")  # print would write the newline separately, and outputs could mix
while True:
    signal.pause()
"""


def test_a_second_signal_kills_processes_that_ignore_the_first(start):
    process = start(*launch(), "-c", STUBBORN)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    workers = workers_of(process)
    for number in (signal.SIGTERM, signal.SIGINT):  # two equal signals could arrive as one
        process.send_signal(number)
    assert process.wait(GRACE / 2) in (143, 130)
    assert all(map(gone, workers))
    finish(process)


def test_bad_input_keeps_its_exit_code(start, tmp_path):
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
def test_impossible_launches_are_errors(start, command, words):
    code, _, stderr = finish(start(*command))
    assert (code, stderr.count("\n")) == (2, 1)
    assert words in stderr


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", 75, f"signal {signal.SIGRTMIN + 6}"),
        ("sys.exit(141)", 141, "exit code 141"),  # SIGPIPE: its output is not read
    ],
)
def test_the_exit_of_any_program_is_reported(start, program, code, words):
    ended, _, stderr = finish(start(*launch(), "-c", f"import os, signal, sys; {program}"))
    assert ended == code
    assert re.match(f"launch: process [01] ended with {words}; all have ended", stderr)


SCRIPT = """
import os, subprocess, sys, threading
from experiments.cli import exit_codes

if sys.argv[1] == "script":  # both of its programs inherit the variable
    for number, stdin in enumerate((subprocess.DEVNULL, None)):  # DEVNULL is what a shell gives background jobs
        subprocess.run([sys.executable, "-c", os.environ["PROGRAM"], str(number)], stdin=stdin, check=True)
else:
    with exit_codes.in_one_line(resumes=True):
        print(sys.argv[1], exit_codes.heartbeat is not None, exit_codes.HEARTBEAT_VARIABLE in os.environ, flush=True)
        for thread in [] if int(sys.argv[1]) else threading.enumerate()[1:]:
            thread.join()
"""


def test_a_background_job_of_a_launched_script_is_not_supervised(start):
    process = start(*launch("--processes", "1"), "-c", SCRIPT, "script", PROGRAM=SCRIPT)
    assert finish(process) == (0, "0 False False\n1 True False\n", "")


def test_an_error_before_the_first_step_is_not_to_be_repeated(start):
    code, _, stderr = finish(start(*launch(), "-m", "experiments.pipelin"))
    assert code == 1
    assert re.fullmatch(
        "launch: process [01] ended with exit code 1, see above; all have ended", stderr.splitlines()[-1]
    )


@pytest.fixture
def supervisor(tmp_path):
    """A supervisor with a stall timeout of 60 seconds, without workers."""
    return Supervisor(tmp_path, stdin=0, stall=60)


def test_the_worker_that_stalls_is_named(supervisor, tmp_path):
    for name, modified in (("0", 5), ("1", 3)):  # their order counts only, not the system's clock
        supervisor.workers[name] = SimpleNamespace(poll=lambda: None)
        (tmp_path / name).write_text("epoch 1")
        os.utime(tmp_path / name, (modified, modified))

    def stalled(now):
        supervisor.clock = SimpleNamespace(read=lambda: now)
        return supervisor.stalled()

    assert stalled(0.0) is None
    assert stalled(59.0) is None
    os.utime(tmp_path / "0", (1, 1))
    assert stalled(61.0) == ("1", 60)
    del supervisor.workers["1"]
    assert stalled(61.0) is None
    assert stalled(122.0) == ("0", 60)
    (tmp_path / "0").write_text("")  # it predicts
    assert stalled(122.0) is None
    assert stalled(722.0) is None
    assert stalled(723.0) == ("0", 600)


@pytest.mark.parametrize(("sleeps", "code"), [([0.1] * 100 + [3600] + [0.1] * 100, 0), ([0.1] * 700, 75)])
def test_time_in_which_the_launcher_is_suspended_does_not_count(supervisor, tmp_path, monkeypatch, sleeps, code):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda _: now.append(now.pop() + sleeps.pop()))
    (tmp_path / "0").write_text("epoch 1")
    supervisor.clock.last = 0.0
    supervisor.workers["0"] = SimpleNamespace(poll=lambda: None if sleeps else 0)
    assert watch(supervisor)[0] == code


SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "a",
}
JOIN = """
import socket, sys, jax
from experiments.cli.distributed import join
join(f"127.0.0.1:{sys.argv[1]}", 1, 0)
print("visible", jax.config.values["jax_cuda_visible_devices"])
for host in ("127.0.0.1", "127.0.0.2"):
    print(host, "closed" if socket.socket().connect_ex((host, int(sys.argv[1]))) else "open")
"""


@pytest.fixture
def port():
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


def test_a_given_coordinator_uses_all_devices_under_slurm_and_listens_on_its_own_address_only(start, port):
    code, stdout, stderr = finish(start("-c", JOIN, port, **SLURM))
    assert (code, stdout) == (0, "visible all\n127.0.0.1 open\n127.0.0.2 closed\n"), stderr


def test_processes_with_different_options_are_errors(start, port, tmp_path):
    where = "--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id"
    both = [start(*TRAIN, tmp_path, *where, str(number), "--seed", str(number)) for number in range(2)]
    for process in both:
        code, _, stderr = finish(process)
        assert code == 2
        assert f"error: {tmp_path}: differs between the processes: seed. Fix: start all" in stderr
    assert not any(tmp_path.iterdir())


def test_each_process_notifies_the_others_of_a_ctrl_c_once(monkeypatch):
    received, sent = [], []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    should_stop = synchronized_stop(lambda: bool(received))
    assert not should_stop()
    received.append(signal.SIGINT)
    assert [should_stop() for _ in range(3)] == [False, True, True]
    assert sent == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (predict.main, Options),
        (pseudo_label.main, Options),
        (ensemble.main, ensemble.EnsembleOptions),
        (evaluate.main, evaluate.EvaluateOptions),
    ],
)
def test_other_stages_do_not_support_several_processes(tmp_path, main, options):
    with pytest.raises(InputError, match="only the pipeline and train support several processes"):
        main(options(data="digits", preset="smoke", out=tmp_path, coordinator="h:1", processes=2, process_id=0))
    assert not any(tmp_path.iterdir())
