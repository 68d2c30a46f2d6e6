import re
from dataclasses import fields, replace

import pytest

from experiments.cli.options import Options, parse
from experiments.cli.overrides import change_preset, optional_fields
from experiments.cluster.parallel_members import command_line
from jaxnets.config import AugmentConfig, TrainConfig
from jaxnets.errors import InputError
from jaxnets.recipes import quick

CHANGES = ["--training.learning-rate", "0.1", "--training.augmentation.zoom", "0", "--sizes", "width", "20"]


def read(monkeypatch, words):
    monkeypatch.setattr("sys.argv", ["pipeline.py", *words])
    return parse(Options, "experiments.pipeline", None)


def test_the_help_explains_every_field_of_a_recipe(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        read(monkeypatch, ["--help"])
    help_text = capsys.readouterr().out
    for field in (*fields(TrainConfig), *fields(AugmentConfig)):
        if field.name != "augmentation":
            option = field.name.replace("_", "-")
            assert re.search(rf"\.{option} .*None.*\W+\w", help_text), option


def test_every_field_of_a_recipe_can_be_changed(monkeypatch):
    options = read(monkeypatch, CHANGES)
    preset = change_preset(quick(), options.training, options.sizes)
    recipe, before = preset.recipe("senet"), quick().recipe("senet")
    assert recipe.sizes == {**before.sizes, "width": 20}
    augmentation = replace(before.training.augmentation, zoom=0.0)
    assert recipe.training == replace(before.training, learning_rate=0.1, augmentation=augmentation)
    assert preset.name.startswith("quick-")
    assert preset.name != change_preset(quick(), options.training, {"width": 21}).name


def test_a_size_changes_the_families_that_have_it():
    preset = change_preset(quick(), optional_fields(TrainConfig)(), {"growth": 5})
    assert preset.recipe("deep_cnn").sizes["growth"] == 5
    assert preset.recipe("resnet").sizes == quick().recipe("resnet").sizes


def test_without_changes_the_preset_stays_as_it_is(monkeypatch):
    options = read(monkeypatch, [])
    assert change_preset(quick(), options.training, options.sizes) == quick()


def test_a_worker_gets_the_same_options(monkeypatch):
    options = read(monkeypatch, [*CHANGES, "--fold", "2", "5", "--no-resume", "--students", "senet"])
    assert read(monkeypatch, command_line(options)) == options


def test_a_value_that_a_recipe_does_not_allow_is_an_error():
    changes = optional_fields(TrainConfig)(augmentation=optional_fields(AugmentConfig)(zoom=-1.0))
    with pytest.raises(InputError, match=r"zoom: -1.0 is not allowed"):
        change_preset(quick(), changes, {})
