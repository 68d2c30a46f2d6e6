import numpy as np
import pytest

from experiments.cross_validate import CrossValidateOptions, main, read
from experiments.reporting.out_of_fold import SCORES
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.inference.ensemble import combine
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import committed_folder
from jaxnets.store.train_rows import was_trained_on
from tests.experiments.processes import finish

FEW = ("--preset", "smoke", "--data", "digits", "--folds", "2", "--families", "wide_cnn", "--training.epochs", "1")


@pytest.fixture(scope="module")
def crossed(start, shared, tmp_path_factory):
    """The directory of a small cross-validation, and what it printed."""
    out = tmp_path_factory.mktemp("crossed")
    for against in ((), ("--against", out)):
        code, stdout, stderr = finish(start("-m", "experiments.cross_validate", *FEW, "--out", out, *against))
        assert (code, stderr) == (0, ""), stderr
    return out, stdout


def test_models_are_not_trained_on_the_rows_that_they_predict(crossed):
    out, _ = crossed
    digits = data.load("digits")._replace(y_test=None)
    labels = digits.y_train
    log_probs = read(out, data.digest(digits))["wide_cnn-0"]
    for number, (_, valid) in enumerate(data.stratified_folds(labels, 2)):
        with np.load(out / f"fold-{number}" / "predictions" / "wide_cnn-0" / "valid.npz") as file:
            np.testing.assert_array_equal(log_probs[:, valid], file["log_probs"])
        assert not was_trained_on(out / f"fold-{number}" / "members" / "wide_cnn-0", digits.x_train[valid]).any()
    assert (combine(log_probs).argmax(-1) == labels).mean() > 0.15


def test_the_tables_have_a_row_per_model(crossed):
    out, stdout = crossed
    rows = [line for line in stdout.splitlines() if "wide_cnn-0 " in line and "│" in line]
    assert len(rows) == 3  # one view, all views, and the comparison with itself
    assert "│ 1.000 │ +0.00000 ± 0.00000" in rows[-1]
    scores = read_json(out / SCORES)["scores"]
    assert [(score["model"], score["views"], score["rows"]) for score in scores] == [
        ("wide_cnn-0", 1, 1438),
        ("wide_cnn-0", 3, 1438),
    ]
    assert f" {scores[0]['errors']} │" in rows[0]
    mistakes = (out / "mistakes.csv").read_text().splitlines()
    assert len(mistakes) == 1 + scores[1]["errors"]  # of all views
    plots = {"learning_curves", "missed", "confusion", "reliability", "members", "disagreement"}
    assert {path.stem for path in out.glob("*.png")} == plots


@pytest.mark.parametrize("folds", [1, 10_000])
def test_an_impossible_number_of_folds_is_an_error(folds, tmp_path):
    with pytest.raises(InputError, match="folds: is"):
        main(CrossValidateOptions(data="digits", folds=folds, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_comparison_is_an_error_before_any_training(tmp_path):
    with pytest.raises(InputError, match="oof: is missing"):
        main(CrossValidateOptions(data="digits", out=tmp_path / "out", against=tmp_path / "other"))
    assert not (tmp_path / "out").exists()


def test_a_comparison_with_other_data_is_an_error_before_any_training(tmp_path):
    with committed_folder(tmp_path / "other" / "oof", {}):
        pass
    write_json(tmp_path / "other" / "fold-0" / "job.json", {"data_sha256": "another"})
    with pytest.raises(InputError, match="is a cross-validation on other data"):
        main(CrossValidateOptions(data="digits", out=tmp_path / "out", against=tmp_path / "other"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("families", [("vgg",), ("senet", "senet")])
def test_unknown_and_duplicate_families_are_errors(families, tmp_path):
    with pytest.raises(InputError, match="--families"):
        main(CrossValidateOptions(preset="smoke", data="digits", families=families, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_given_fold_is_an_error(tmp_path):
    with pytest.raises(InputError, match="--fold"):
        main(CrossValidateOptions(data="digits", fold=(0, 5), out=tmp_path / "out"))
