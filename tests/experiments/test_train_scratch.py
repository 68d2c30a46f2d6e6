import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import publish, train_scratch
from experiments.options import run
from experiments.train_scratch import ScratchOptions, main
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.seal import check
from scratch.mlp import init_params
from scratch.recipes import RECIPES
from scratch.train import State
from scratch.weights import load_params

PICTURES = {"predictions.png", "confusion.png", "learning_curves.png", "mistakes.png", "first_layer.png"}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of two networks that nothing interrupted."""
    out = tmp_path_factory.mktemp("scratch") / "finished"
    main(ScratchOptions(recipe="tuned", seeds=2, data="digits", out=out))
    return out


def test_the_report_says_what_was_trained_and_how_good_it_is(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["recipe"] == "tuned"
    assert report["seeds"] == 2
    assert report["settings"]["widths"] == [64, 64, 10]
    assert (report["train_rows"], report["test_rows"]) == (1438, 359)
    accuracies = report["test_accuracies"]
    np.testing.assert_allclose(report["test_accuracy_mean"], np.mean(accuracies))
    np.testing.assert_allclose(report["test_accuracy_sd"], abs(accuracies[0] - accuracies[1]) / np.sqrt(2))
    assert min(accuracies) > 0.93
    assert len(report["seconds"]) == 2


def test_the_accuracy_is_that_of_the_answers_at_the_last_epoch(finished):
    labels = data.load("digits").y_test
    for seed, accuracy in enumerate(json.loads((finished / "report.json").read_text())["test_accuracies"]):
        with np.load(finished / f"seed-{seed}" / "log_probs.npz") as arrays:
            assert (arrays["log_probs"].argmax(axis=1) == labels).mean() == accuracy
        last = (finished / f"seed-{seed}" / "metrics.csv").read_text().splitlines()[-1].split(",")
        assert (float(last[0]), float(last[3])) == (20, accuracy)


def test_every_picture_shows_something(finished):
    assert {path.name for path in finished.glob("*.png")} == PICTURES
    for name in PICTURES:
        assert imread(finished / name)[..., :3].std() > 0.05


def test_what_is_finished_is_not_trained_again(finished):
    before = contents(finished)
    for seeds in (2, 1):  # the report of two is not replaced by one of one
        main(ScratchOptions(recipe="tuned", seeds=seeds, data="digits", out=finished))
        assert contents(finished) == before


@pytest.mark.parametrize("recipe", ["classic", "deformed"])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path, monkeypatch, recipe):
    short = replace(RECIPES[recipe](), widths=(784, 16, 10), epochs=8)
    monkeypatch.setitem(RECIPES, recipe, lambda: short)
    options = ScratchOptions(recipe=recipe, data="digits", out=tmp_path / "whole")
    main(options)

    monkeypatch.setattr(train_scratch, "SAVE_SECONDS", 0)
    save_look, cut = train_scratch.save_look, ScratchOptions(recipe=recipe, data="digits", out=tmp_path / "cut")

    def stop_at_the_fourth(unfinished, state, history):
        save_look(unfinished, state, history)
        if state.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_scratch, "save_look", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        main(cut)
    assert [path.name for path in (tmp_path / "cut" / ".seed-0.unfinished").iterdir()] == ["epoch-4"]
    monkeypatch.setattr(train_scratch, "save_look", save_look)
    main(cut)

    whole, again = (load_params(tmp_path / name / "seed-0" / "weights.npz") for name in ("whole", "cut"))
    for left, right in zip(sum(whole, ()), sum(again, ()), strict=True):
        np.testing.assert_array_equal(left, right)
    epochs = [line.split(",")[0] for line in (tmp_path / "cut" / "seed-0" / "metrics.csv").read_text().splitlines()]
    assert epochs == ["epoch", *map(str, range(1, 9))]
    assert not list((tmp_path / "cut").glob(".*"))


def test_validation_leaves_the_test_rows_alone(tmp_path, monkeypatch):
    digits = data.load("digits")
    monkeypatch.setattr(data, "load", lambda *arguments: digits._replace(x_test=digits.x_test[:0], y_test=None))
    main(ScratchOptions(validate=True, data="digits", out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["train_rows"], report["valid_rows"]) == (1199, 239)
    assert report["valid_accuracy_mean"] > 0.85
    assert not any(name.startswith("test_") for name in report)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "0"], "--seeds: is 0"),
        (["--data", "colours.npz"], "has colours"),
        (["--data", "unlabelled.npz"], "has no test labels"),
        (["--data", "missing.npz"], "missing.npz"),
    ],
)
def test_bad_input_is_one_line_and_no_folder(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    rng, labels = np.random.default_rng(0), np.arange(20) % 2
    colours, grey = (rng.integers(0, 256, (20, 8, 8, channels), np.uint8) for channels in (3, 1))
    np.savez("colours.npz", x_train=colours, y_train=labels, x_test=colours, y_test=labels)
    np.savez("unlabelled.npz", x_train=grey, y_train=labels, x_test=grey)
    monkeypatch.setattr(sys, "argv", ["train_scratch", "--data", "digits", "--out", "out", *arguments])
    with pytest.raises(SystemExit) as end:
        run(main, ScratchOptions)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert (error.count("\n"), words in error) == (1, True), error
    assert not (tmp_path / "out").exists()


def test_another_recipe_is_refused(finished):
    before = contents(finished)
    with pytest.raises(ValueError, match="another recipe"):
        main(ScratchOptions(recipe="classic", data="digits", out=finished))
    assert contents(finished) == before


@pytest.mark.parametrize("damaged", ["weights.npz", "velocity.npz", "metrics.csv"])
def test_a_damaged_look_is_named(tmp_path, damaged):
    params = init_params(np.random.default_rng(0), (4, 2))
    train_scratch.save_look(tmp_path, State(3, params, params), [{"epoch": 3, "loss": 0.5}])
    assert train_scratch.resume(tmp_path)[1] == [{"epoch": 3, "loss": 0.5}]
    (tmp_path / "epoch-3" / damaged).write_bytes(b"")
    with pytest.raises(InputError, match="epoch-3: is damaged"):
        train_scratch.resume(tmp_path)


def test_a_damaged_network_is_named_and_the_report_stays(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out" / "seed-1" / "metrics.csv").write_text("")
    with pytest.raises(InputError, match="holds a damaged seed-N"):
        main(ScratchOptions(recipe="tuned", seeds=2, data="digits", out=tmp_path / "out"))
    assert (tmp_path / "out" / "report.json").read_bytes() == (finished / "report.json").read_bytes()


def test_the_first_seed_can_be_published_once(finished, tmp_path):
    options = publish.PublishOptions(scratch=finished, out=tmp_path)
    publish.main(options)
    assert check(tmp_path / "scratch") == json.loads((finished / "job.json").read_text())
    ours, theirs = (load_params(path / "weights.npz") for path in (tmp_path / "scratch", finished / "seed-0"))
    for layer in zip(ours, theirs, strict=True):
        np.testing.assert_equal(*layer)
    with pytest.raises(InputError, match="is there already"):
        publish.main(options)
    with pytest.raises(InputError, match=r"holds no report\.json"):
        publish.main(publish.PublishOptions(scratch=tmp_path, out=tmp_path / "out"))
    with pytest.raises(InputError, match="names no folder"):
        publish.main(publish.PublishOptions())
