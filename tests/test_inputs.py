"""The files and changes of `tests.faults`, without a process for each."""

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
LARGE = ("gzip of", "bomb", "more bytes", "other pixels", "many")
SMALL = [name for name in cases.ENTRANCES if not name.startswith("config") and not any(word in name for word in LARGE)]
CONFIG = to_json(
    RunConfig(
        recipe=smoke().recipe("wide_cnn"),
        **{"seed": 0, "precision": "float32", "image_shape": (8, 8, 1), "num_classes": 10},
        **{"data": "digits", "data_sha256": ""},
    )
)


def assert_told(error):
    assert error.count("\n") == 0
    assert "Fix: " in error
    assert len(error) <= LINE


@pytest.mark.parametrize("name", SMALL)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, monkeypatch, capsys, name):
    program, *arguments = cases.ENTRANCES[name](tmp_path, Path())
    before = listing(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as end:
        run(*PROGRAMS[program])
    error = capsys.readouterr().err
    assert (end.value.code, error[:7]) == (2, "error: ")
    assert_told(error.removesuffix("\n"))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", inputs.CONFIG)
def test_a_wrong_config_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "config.json").write_bytes(inputs.CONFIG[name](CONFIG))
    with pytest.raises(InputError) as refused:
        outline(tmp_path, read_config(tmp_path))
    assert_told(str(refused.value).replace(str(tmp_path), ""))


def test_a_changed_file_is_refused_or_read_as_what_it_says(tmp_path):
    trials = list(mutate.mutations(tmp_path, np.random.default_rng(1), 300))
    assert [trial.failure for trial in trials if trial.failure] == []
    assert sum(trial.struck for trial in trials) > 290
