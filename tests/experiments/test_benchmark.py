import json

import pytest

from experiments import benchmark
from experiments.benchmark import BenchmarkOptions, main
from jaxnets.errors import InputError


@pytest.fixture
def without_torch(monkeypatch):
    find = benchmark.find_spec
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None if name == "torch" else find(name))


def test_each_is_timed_in_every_round_and_learns(without_torch, tmp_path, capsys):
    out = tmp_path / "benchmark.json"
    main(BenchmarkOptions(data="digits", rounds=2, out=out))
    report = json.loads(out.read_text())
    assert set(report["results"]) == {"scratch", "sklearn"}
    for result in report["results"].values():
        assert len(result["seconds"]) == 2
        assert min(result["seconds"]) > 0
        assert result["test_accuracy"] > 0.85
    assert report["results"]["scratch"]["times_scratch"] == 1
    assert report["settings"] == {"rounds": 2, "epochs": 20, "threads": None, "data": "digits"}
    assert {"python", "numpy", "scikit-learn"} <= set(report["versions"])
    assert "torch is left out" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["rounds", "epochs", "threads"])
def test_nothing_to_time_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=f"--{wrong}: is 0"):
        main(BenchmarkOptions(data="digits", out=tmp_path / "benchmark.json", **{wrong: 0}))
    assert not (tmp_path / "benchmark.json").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written"):
        main(BenchmarkOptions(data="digits", out=tmp_path / "file" / "benchmark.json"))
