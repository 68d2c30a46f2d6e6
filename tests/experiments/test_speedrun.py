import json

import numpy as np
import pytest

from experiments.studies.speedrun import SpeedrunOptions, main, without_test_rows
from jaxnets import data, recipes
from jaxnets.config import ModelRecipe, TrainConfig
from jaxnets.errors import DivergedError, InputError
from jaxnets.inference import predict


@pytest.fixture
def small_recipe(monkeypatch):
    training = TrainConfig(epochs=4, batch_size=32, learning_rate=5e-3, ema_decay=0.9)
    recipe = ModelRecipe(family="wide_cnn", sizes={"width": 8, "depth": 2}, training=training)
    monkeypatch.setattr(recipes, "speedrun", lambda target: recipe)


def test_every_seed_is_timed_and_evaluated(small_recipe, tmp_path, capsys, monkeypatch):
    out, predictions, make = tmp_path / "speedrun.json", [], predict.make_predict

    def make_recorded(*arguments):
        apply = make(*arguments)
        return lambda *arguments: predictions.append(apply(*arguments)) or predictions[-1]

    monkeypatch.setattr(predict, "make_predict", make_recorded)
    main(SpeedrunOptions(data="digits", runs=2, devices=1, out=out))
    report = json.loads(out.read_text())
    assert len(report["seconds"]) == len(report["accuracies"]) == 2
    assert min(report["seconds"]) > 0
    assert min(report["accuracies"]) > 0.5
    first, second = predictions
    assert (first != second).all()
    assert report["rows"] == "test"
    assert report["recipe"]["family"] == "wide_cnn"
    assert "seed 1: " in capsys.readouterr().out


def test_a_training_that_diverged_has_no_result(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "make_predict", lambda *arguments: lambda *images: np.full((359, 10), np.nan))
    with pytest.raises(DivergedError, match="seed 3: not all predictions are finite"):
        main(SpeedrunOptions(data="digits", seed=3, runs=1, devices=1, out=tmp_path / "speedrun.json"))
    assert list(tmp_path.iterdir()) == []


def test_validation_images_are_held_out_training_images():
    digits = data.load("digits")
    split = without_test_rows(digits)
    np.testing.assert_array_equal(np.concatenate([split.x_train, split.x_test]), digits.x_train)
    np.testing.assert_array_equal(np.concatenate([split.y_train, split.y_test]), digits.y_train)
    assert len(split.x_test) == len(digits.x_train) // 10


@pytest.mark.parametrize("target", [99.0, 99.5, 99.7])
def test_every_target_has_a_recipe(target):
    assert recipes.speedrun(target).training.epochs >= 1


def test_a_target_without_a_recipe_is_rejected():
    with pytest.raises(InputError, match=r"^target: 99.9 has no recipe"):
        recipes.speedrun(99.9)


def test_without_test_labels_only_validation_is_possible(small_recipe, monkeypatch, tmp_path):
    unlabelled = data.load("digits")._replace(y_test=None)
    monkeypatch.setattr(data, "load", lambda name: unlabelled)
    with pytest.raises(InputError, match="no test labels"):
        main(SpeedrunOptions(data="digits", out=tmp_path / "speedrun.json"))
    main(SpeedrunOptions(data="digits", runs=1, devices=1, validate=True, out=tmp_path / "speedrun.json"))
    assert json.loads((tmp_path / "speedrun.json").read_text())["rows"] == "validation"
