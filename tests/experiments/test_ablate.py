from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.studies import ablate
from experiments.studies.ablate import AblateOptions, Row, fold_rows, holm, main, summarise
from experiments.studies.variants import Variant, trainer, variants
from jaxnets import data, recipes
from jaxnets.config import ModelRecipe
from jaxnets.devices import choose_devices
from jaxnets.errors import DivergedError, InputError
from jaxnets.inference import predict
from jaxnets.training.optimizer import learning_rate


@pytest.fixture
def trainings(monkeypatch):
    """The trainings that were run; each returns a number of errors that depends on its fold and seed."""
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
    fields = lambda variant: {
        **vars(variant.recipe.training),
        **vars(variant.recipe.training.augmentation),
        "augmentation": None,
        "sizes": variant.recipe.sizes,
    }
    for name, variant in known.items():
        changed = [key for key, value in fields(Variant(recipe)).items() if fields(variant)[key] != value]
        assert len(changed) == (5 if name == "no warps" else 1), name
    assert known["constant rate"].schedule_scale == 1000
    assert known["MixUp 0.2 but at the end"] == known["MixUp 0.2"]._replace(epochs_without_mixup=1)


def test_a_constant_rate_warms_up_as_long_and_stays_constant():
    variant = variants(recipes.quick().recipe("wide_cnn"))["constant rate"]
    rate = learning_rate(variant.recipe.training, variant.schedule_scale * 1000)
    peak = variant.recipe.training.learning_rate
    assert [rate(step) for step in (149, 400, 999)] == pytest.approx([peak] * 3, rel=0.01)
    assert rate(50) < peak / 1.5


def test_folds_validate_every_row_once_and_never_train_on_it():
    labels = data.load("digits").y_train
    folds = fold_rows(labels, 5)
    assert np.array_equal(np.sort(np.concatenate([valid for _, valid in folds])), np.arange(len(labels)))
    assert len({len(train) for train, _ in folds}) == 1
    for train, valid in folds:
        assert not np.intersect1d(train, valid).size
        assert np.bincount(labels[valid]).min() >= len(valid) // 12


def test_each_training_has_one_line_and_is_not_repeated(trainings, tmp_path, capsys):
    main(options(tmp_path))
    assert len(trainings) == 6  # the recipe and one change on three folds
    lines = pd.read_csv(tmp_path / "ablate.csv")
    assert lines["change"].tolist() == ["recipe"] * 3 + ["smoothing 0"] * 3
    main(options(tmp_path))
    assert len(trainings) == 6
    main(options(tmp_path, seeds=2))
    assert [seed for _, seed, _ in trainings[6:]] == [1] * 6
    assert "smoothing 0" in capsys.readouterr().out


def test_an_interrupted_command_resumes(trainings, tmp_path):
    main(options(tmp_path))
    whole = (tmp_path / "ablate.csv").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "ablate.csv").write_text("".join(lines[:3]))
    main(options(tmp_path))
    assert len(trainings) == 6 + 4
    assert (tmp_path / "ablate.csv").read_text() == whole


def test_a_changed_recipe_is_measured_again(trainings, tmp_path):
    main(options(tmp_path, changes=("rate x 2",)))
    main(options(tmp_path, changes=("rate x 2",), epochs=2))
    assert len(trainings) == 12


def test_differences_are_taken_fold_by_fold():
    lines = pd.DataFrame(
        {"change": ["recipe"] * 3 + ["other"] * 3, "seed": 0, "fold": [0, 1, 2, 2, 1, 0], "valid_rows": 100}
        | {"errors": [1, 2, 3, 5, 3, 2], "errors_live_statistics": [1, 2, 3] * 2, "errors_last": [3, 4, 5] * 2}
    )
    recipe, other, live, last = summarise(lines)
    wider = np.sqrt(1 / 3 + 1 / 2)  # than the spread of a fold
    assert (recipe.trainings, recipe.error, recipe.error_se) == (3, 2, pytest.approx(wider))
    assert other.above == pytest.approx(4 / 3)
    assert other.above_se == pytest.approx(wider / np.sqrt(3))
    assert other.p == pytest.approx(0.127, abs=1e-3)  # t = 2.53 with two degrees of freedom
    assert (live.above, last.above) == (0, 2)


def test_seeds_of_a_fold_count_once():
    lines = pd.DataFrame({"change": "recipe", "fold": [0, 0, 1, 1], "seed": [0, 1, 0, 1], "valid_rows": 100})
    lines = lines.assign(errors=[1, 3, 4, 6], errors_live_statistics=0, errors_last=0)
    recipe, *_ = summarise(lines)
    assert (recipe.trainings, recipe.error) == (4, 3.5)
    assert recipe.error_se == pytest.approx(np.std([2, 5], ddof=1) * np.sqrt(1 / 2 + 1))


def test_p_values_are_corrected_for_the_number_of_tests():
    row = Row("one", 5, 1.0, 0.1)
    rows = holm([row._replace(p=p) for p in (0.04, 0.001, np.nan, 0.03)])
    np.testing.assert_allclose([one.p for one in rows], [0.06, 0.003, np.nan, 0.06])


@pytest.mark.parametrize("damage", [b"a,b\n1,2\n", b"\xff\xfe\x00", b"", "cut", "word"])
def test_a_damaged_or_foreign_csv_is_rejected(trainings, tmp_path, damage):
    path = tmp_path / "ablate.csv"
    main(options(tmp_path))
    whole = path.read_bytes()
    kinds = {"cut": whole[: whole.rindex(b",")], "word": whole[: whole.rindex(b",")] + b",many\n"}
    path.write_bytes(kinds.get(damage, damage))
    with pytest.raises(InputError, match="is not a CSV of ablations") as error:
        main(options(tmp_path))
    assert "\n" not in str(error.value)
    assert len(trainings) == 6


def test_a_training_that_diverged_has_no_line(trainings, tmp_path, monkeypatch):
    fake = ablate.trainer

    def trainer_of_one_that_diverges(variant, *rest):
        def diverge(*arguments):
            raise DivergedError("wide_cnn: not all predictions are finite")

        return diverge if variant.recipe.training.label_smoothing == 0 else fake(variant, *rest)

    monkeypatch.setattr(ablate, "trainer", trainer_of_one_that_diverges)
    with pytest.raises(
        DivergedError, match="smoothing 0, fold 1 of 3, seed 0: wide_cnn: not all predictions are finite"
    ):
        main(options(tmp_path))
    assert set(pd.read_csv(tmp_path / "ablate.csv")["change"]) == {"recipe"}


@pytest.fixture
def predictions(monkeypatch):
    """The last function in this list is applied to all predictions."""
    make_predict, changes = predict.make_predict, [lambda log_probs: log_probs]

    def make(*arguments):
        predict = make_predict(*arguments)
        return lambda *arguments: changes[-1](predict(*arguments))

    monkeypatch.setattr(predict, "make_predict", make)
    return changes


@pytest.mark.usefixtures("quick_compilation")
def test_a_variant_is_trained_and_evaluated(predictions):
    digits = data.load("digits")
    recipe: ModelRecipe = recipes.smoke().recipe("wide_cnn")
    mixed = replace(recipe.training, epochs=3, augmentation=replace(recipe.training.augmentation, mixup_alpha=0.2))
    folds = fold_rows(digits.y_train, 4)
    seen = []
    train = trainer(
        Variant(replace(recipe, training=mixed), epochs_without_mixup=1),
        digits,
        len(folds[0][0]),
        choose_devices(1),
        "float32",
    )
    errors = train(0, *folds[0], lambda epoch, step: seen.append(epoch))
    assert sorted(set(seen)) == [0, 1, 2]
    assert max(errors.values()) < 0.5 * len(folds[0][1])
    assert errors == train(0, *folds[0], lambda epoch, step: None)
    predictions.append(lambda log_probs: np.full_like(log_probs, np.nan))
    with pytest.raises(DivergedError, match="wide_cnn: not all predictions are finite"):
        train(0, *folds[0], lambda epoch, step: None)
