"""The invalid inputs and random changes of `tests.faults`, in this process."""

import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import pipeline, train_scratch
from experiments.cli.options import run
from experiments.train_scratch import ScratchOptions
from jaxnets.config import to_json
from jaxnets.errors import InputError
from jaxnets.recipes import smoke
from jaxnets.runs import RunConfig, outline, read_config
from tests.faults import cases, inputs, mutate
from tests.faults.entries import LINE, listing

PROGRAMS = {
    "pipeline": (pipeline.main, pipeline.PipelineOptions),
    "train_scratch": (train_scratch.main, ScratchOptions),
}
LARGE = ("bomb", "too large", "other pixels", "1,000")
SMALL = [name for name in cases.ENTRANCES if not name.startswith("config") and not any(word in name for word in LARGE)]
CONFIG = to_json(
    RunConfig(
        recipe=smoke().recipe("wide_cnn"),
        **{"seed": 0, "precision": "float32", "image_shape": (8, 8, 1), "num_classes": 10},
        **{"data": "digits", "data_sha256": ""},
    )
)


def assert_short(error):
    assert error.count("\n") == 0
    assert "Fix: " in error
    assert len(error) <= LINE


@pytest.mark.parametrize("name", SMALL)
def test_an_invalid_file_is_rejected_in_one_line(tmp_path, monkeypatch, capsys, name):
    program, *arguments = cases.ENTRANCES[name](tmp_path, Path())
    before = listing(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as end:
        run(*PROGRAMS[program])
    error = capsys.readouterr().err
    assert (end.value.code, error[:7]) == (2, "error: ")
    assert_short(error.removesuffix("\n"))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", inputs.CONFIG)
def test_an_invalid_config_is_rejected_in_one_line(tmp_path, name):
    (tmp_path / "config.json").write_bytes(inputs.CONFIG[name](CONFIG))
    with pytest.raises(InputError) as caught:
        outline(tmp_path, read_config(tmp_path))
    assert_short(str(caught.value).replace(str(tmp_path), ""))


def test_a_changed_file_is_rejected_or_read_correctly(tmp_path):
    trials = list(mutate.mutations(tmp_path, np.random.default_rng(1), 300))
    assert [trial.failure for trial in trials if trial.failure] == []
    assert sum(trial.struck for trial in trials) > 290
