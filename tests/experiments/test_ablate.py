from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments import ablate
from experiments.ablate import AblateOptions, fold_rows, main, summarise
from experiments.variants import Variant, trainer, variants
from jaxnets import data, recipes
from jaxnets.config import Recipe
from jaxnets.devices import choose_devices
from jaxnets.errors import InputError


@pytest.fixture
def trainings(monkeypatch):
    """The trainings that were asked for; each says that as many rows are wrong as its fold and seed have together."""
    done = []

    def fake(variant, digits, rows, devices, precision):
        def train(seed, train_rows, valid_rows, report):
            done.append((variant, seed, len(train_rows)))
            wrong = 3 + seed + int(valid_rows[0]) + (2 if variant.recipe.training.label_smoothing else 0)
            return {"errors": wrong, "errors_live_statistics": wrong + 1, "errors_last": wrong + 4}

        return train

    monkeypatch.setattr(ablate, "trainer", fake)
    return done


def options(path, **changes):
    given = {"family": "wide_cnn", "preset": "smoke", "data": "digits", "changes": ("smoothing 0",), "folds": 3}
    return AblateOptions(**(given | {"out": path / "ablate.csv"} | changes))


def test_every_variant_changes_one_thing_of_the_recipe():
    recipe = recipes.quick().recipe("wide_cnn")
    known = variants(recipe)
    assert known.pop("recipe") == Variant(recipe)
    assert len(known) == 23
    for name, variant in known.items():
        assert variant != Variant(recipe), name
        training = variant.recipe.training
        changed = [key for key, value in vars(recipe.training).items() if getattr(training, key) != value]
        assert len(changed) + (variant.recipe.sizes != recipe.sizes) == 1, name


def test_folds_validate_every_row_once_and_never_train_on_it():
    labels = data.load("digits").y_train
    folds = fold_rows(labels, 5)
    assert np.array_equal(np.sort(np.concatenate([valid for _, valid in folds])), np.arange(len(labels)))
    assert len({len(train) for train, _ in folds}) == 1
    for train, valid in folds:
        assert not np.intersect1d(train, valid).size
        assert np.bincount(labels[valid]).min() >= len(valid) // 12


def test_a_line_a_training_and_none_is_repeated(trainings, tmp_path, capsys):
    main(options(tmp_path))
    assert len(trainings) == 6  # the recipe and one change on three folds
    lines = pd.read_csv(tmp_path / "ablate.csv")
    assert lines["change"].tolist() == ["recipe"] * 3 + ["smoothing 0"] * 3
    main(options(tmp_path))
    assert len(trainings) == 6
    main(options(tmp_path, seeds=2))
    assert [seed for _, seed, _ in trainings[6:]] == [1] * 6
    assert "smoothing 0" in capsys.readouterr().out


def test_an_interrupted_command_goes_on(trainings, tmp_path):
    main(options(tmp_path))
    whole = (tmp_path / "ablate.csv").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "ablate.csv").write_text("".join(lines[:3]))
    main(options(tmp_path))
    assert len(trainings) == 6 + 4
    assert (tmp_path / "ablate.csv").read_text() == whole


def test_a_changed_recipe_is_measured_anew(trainings, tmp_path):
    main(options(tmp_path, changes=("rate x 2",)))
    main(options(tmp_path, changes=("rate x 2",), epochs=2))
    assert len(trainings) == 12


def test_differences_are_taken_fold_by_fold():
    lines = pd.DataFrame(
        {"change": ["recipe"] * 3 + ["other"] * 3, "seed": 0, "fold": [0, 1, 2, 2, 1, 0], "valid_rows": 100}
        | {"errors": [1, 2, 3, 5, 3, 2], "errors_live_statistics": [1, 2, 3] * 2, "errors_last": [3, 4, 5] * 2}
    )
    recipe, other, live, last = summarise(lines)
    assert (recipe.n, recipe.error, recipe.error_se) == (3, 2, pytest.approx(1 / np.sqrt(3)))
    assert other.above == pytest.approx(4 / 3)
    assert other.above_se == pytest.approx(1 / 3)
    assert other.p == pytest.approx(0.0572, abs=1e-4)  # t = 4 with two degrees of freedom
    assert (live.above, last.above) == (0, 2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"folds": 1}, "--folds: is 1"), ({"seeds": 0}, "--seeds"), ({"changes": ("sleep",)}, "'sleep' is not known")],
)
def test_impossible_wishes_are_refused(tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        main(options(tmp_path, **wrong))
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "ablate.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is no table of ablations"):
        main(options(tmp_path))


@pytest.mark.usefixtures("quick_compilation")
def test_a_variant_is_trained_and_scored():
    digits = data.load("digits")
    recipe: Recipe = recipes.smoke().recipe("wide_cnn")
    mixed = replace(recipe.training, epochs=3, augmentation=replace(recipe.training.augmentation, mixup_alpha=0.2))
    folds = fold_rows(digits.y_train, 4)
    seen = []
    train = trainer(
        Variant(replace(recipe, training=mixed), calm=1), digits, len(folds[0][0]), choose_devices(1), "float32"
    )
    errors = train(0, *folds[0], lambda epoch, step: seen.append(epoch))
    assert sorted(set(seen)) == [0, 1, 2]
    assert max(errors.values()) < 0.5 * len(folds[0][1])
    assert errors == train(0, *folds[0], lambda epoch, step: None)
