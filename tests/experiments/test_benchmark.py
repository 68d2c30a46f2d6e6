import json
import os
import signal

import jax
import numpy as np
import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import deotte, hlo, mlp, sweep
from experiments.benchmark.__main__ import BenchmarkOptions, main
from experiments.benchmark.case import Case, Weights
from experiments.benchmark.race import forced_cpu_devices, summary
from experiments.benchmark.sweep import mark_slow, sizes_of
from experiments.benchmark.workers import Worker
from jaxnets import recipes
from jaxnets.errors import InputError


@pytest.fixture
def no_peers(monkeypatch):
    find = benchmark.find_spec
    for module in (benchmark, mlp):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in ("torch", "keras") else find(name))


def test_each_is_timed_in_every_round_and_learns(no_peers, tmp_path, capsys):
    main(BenchmarkOptions(parts=("scratch",), data="digits", rounds=2, out=tmp_path / "benchmark.json"))
    report = json.loads((tmp_path / "benchmark-scratch.json").read_text())
    assert set(report["results"]) == {"scratch", "sklearn"}
    for result in report["results"].values():
        assert len(result["seconds"]) == 2
        assert min(result["seconds"]) > 0
        assert result["test_accuracy"] > 0.8
    assert report["results"]["scratch"]["times_scratch"] == 1
    assert report["settings"]["data"] == "digits"
    assert {"numpy", "scikit-learn"} <= set(report["packages"])
    assert "torch is left out" in capsys.readouterr().out


def test_a_family_is_timed_at_every_work_beside_the_machines_limits(no_peers, tmp_path, capsys):
    options = {"families": ("wide_cnn",), "preset": "smoke", "rounds": 2, "steps": 2}
    main(BenchmarkOptions(parts=("families",), data="digits", out=tmp_path / "b.json", **options))
    result = json.loads((tmp_path / "b-families-smoke.json").read_text())["results"]["wide_cnn"]
    ours = result["libraries"]["jaxnets"]
    assert set(ours["works"]) == {"step", "loop", "infer", "tta"}
    for work in ours["works"].values():
        assert len(work["seconds"]) == 2
        assert work["images_per_second"] > 0
        assert work["jaxnets_times"] == 1
    assert ours["parameters"] > 100
    assert ours["host_bytes"] > 2**20
    # Forwards and backwards, at 8 x 8: an under- or overcount by a factor of ten would show.
    assert 1e6 < ours["flops_per_step"] < 1e9
    assert 0 < result["share_of_peak"] < 1
    assert "keras is left out" in capsys.readouterr().out


def test_a_process_that_cannot_build_its_side_says_why():
    recipe = recipes.smoke().recipe("resnet")
    images = np.zeros((64, 8, 8, 1), np.uint8)
    case = Case("no_such_family", {}, recipe.training, "float32", images, np.zeros(64, int), 1, 64, 2)
    with pytest.raises(RuntimeError, match="no_such_family"):
        Worker("jaxnets", case)


def test_ctrl_c_is_for_the_program_and_not_for_its_workers(monkeypatch):
    def start(process):
        raise RuntimeError(signal.getsignal(signal.SIGINT))  # a program inherits what is ignored

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", start)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match=str(signal.SIG_IGN.value)):
        Worker("jaxnets", "float32")
    assert signal.getsignal(signal.SIGINT) == before


def test_a_network_that_differs_is_not_timed():
    weights = Weights({}, {}, np.zeros((1, 8, 8, 1)), np.zeros((1, 10)))
    weights.check(np.full((1, 10), 1e-5), "Other")
    with pytest.raises(RuntimeError, match="Other's network differs"):
        weights.check(np.full((1, 10), 0.1), "Other")


def test_ratios_are_medians_of_pairs():
    recipe = recipes.smoke().recipe("resnet")
    case = Case("resnet", {}, recipe.training, "float32", np.zeros((64, 8, 8, 1)), np.zeros(64), 2, 64, 15)
    figures = summary(case, "step", {"step": [2.0, 8.0, 3.0]}, {"step": [1.0, 2.0, 3.0]})
    assert figures["jaxnets_times"] == 2
    assert figures["images_per_second"] == 2 * recipe.training.batch_size / 3
    assert case.count("tta") == 8


def test_forced_devices_are_forced_for_a_while(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--before")
    with forced_cpu_devices(3):
        assert os.environ["XLA_FLAGS"] == "--before --xla_force_host_platform_device_count=3"
    assert os.environ["XLA_FLAGS"] == "--before"


@pytest.mark.parametrize("wrong", ["rounds", "steps", "epochs", "threads"])
def test_nothing_to_time_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=f"--{wrong}: is 0"):
        main(BenchmarkOptions(data="digits", out=tmp_path / "benchmark.json", **{wrong: 0}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["parts", "families"])
def test_an_empty_list_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=f"--{wrong}: names none"):
        main(BenchmarkOptions(data="digits", out=tmp_path / "benchmark.json", **{wrong: ()}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("families", "words"), [(("vgg",), "no family 'vgg'"), (("senet", "senet"), "--families: names a family twice")]
)
def test_families_that_are_not_known_or_named_twice_are_refused(tmp_path, families, words):
    with pytest.raises(InputError, match=words):
        main(BenchmarkOptions(families=families, data="digits", out=tmp_path / "benchmark.json"))


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written"):
        main(BenchmarkOptions(data="digits", out=tmp_path / "file" / "benchmark.json"))


def test_what_devices_add_up_is_counted():
    mean = jax.pmap(lambda tree: jax.lax.pmean(tree, "data"), "data")
    program = mean.lower({"a": np.ones((2, 3, 5), np.float32), "b": np.ones(2, np.float32)}).compile().as_text()
    assert hlo.count(program).reduced_bytes == (3 * 5 + 1) * 4


def test_a_size_is_slow_if_similar_ones_are_far_faster():
    rows = [{**size._asdict(), "gflops": 100.0} for size in sizes_of("resnet")]
    rows[0]["gflops"], rows[-1]["gflops"] = 39.0, 41.0
    mark_slow(rows)
    assert [row["slow"] for row in rows] == [True] + [False] * (len(rows) - 1)
    mark_slow(rows[:1])  # nothing to compare it with
    assert not rows[0]["slow"]


def test_the_sweep_times_every_size_and_saves_each(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sweep, "sizes_of", lambda family: [sweep.Size(family, 8, 2, 2, batch) for batch in (4, 8)])
    monkeypatch.setattr(sweep, "distance", lambda size, other: 1)
    options = {"families": ("wide_cnn",), "data": "digits", "rounds": 1, "precision": "float32"}
    main(BenchmarkOptions(parts=("sweep",), out=tmp_path / "b.json", **options))
    rows = json.loads((tmp_path / "b-sweep-float32.json").read_text())["results"]
    assert [row["batch_size"] for row in rows] == [4, 8]
    assert all(row["images_per_second"] > 0 and row["gflops"] > 0 for row in rows)
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines() if "wide_cnn" in line)


def test_the_peer_network_needs_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(deotte, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="torch is not installed"):
        deotte.main(deotte.DeotteOptions(out=tmp_path / "result.json"))
    assert list(tmp_path.iterdir()) == []
