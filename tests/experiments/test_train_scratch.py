import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import train_scratch
from experiments.cli.options import run
from experiments.cli.output_dir import read_settings
from experiments.reporting.results import read_report
from experiments.scratch_checkpoint import resume, save_checkpoint
from experiments.tools import publish
from experiments.tools.classify_photo import predict_scratch
from experiments.train_scratch import ScratchOptions, main
from jaxnets import data
from jaxnets.errors import DivergedError, InputError
from jaxnets.store.lock import locked
from jaxnets.store.manifest import check_manifest, checksum_of, write_manifest
from scratch.mlp import init_params
from scratch.recipes import RECIPES
from scratch.train import State
from scratch.weights import load_params
from tests.experiments.processes import files

PLOTS = {"predictions.png", "confusion.png", "learning_curves.png", "mistakes.png", "first_layer.png"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output directory of an uninterrupted training of two networks."""
    out = tmp_path_factory.mktemp("scratch") / "finished"
    main(ScratchOptions(recipe="tuned", seeds=2, data="digits", out=out))
    return out


def test_the_report_is_complete(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["recipe"] == "tuned"
    assert report["seeds"] == 2
    assert report["settings"]["widths"] == [64, 64, 10]
    assert (report["train_rows"], report["test_rows"]) == (1438, 359)
    accuracies = report["test_accuracies"]
    np.testing.assert_allclose(report["test_accuracy_mean"], np.mean(accuracies))
    np.testing.assert_allclose(report["test_accuracy_sd"], abs(accuracies[0] - accuracies[1]) / np.sqrt(2))
    assert min(accuracies) > 0.9
    assert len(report["seconds"]) == 2


def test_the_accuracy_is_that_of_the_predictions_at_the_last_epoch(finished):
    labels = data.load("digits").y_test
    for seed, accuracy in enumerate(json.loads((finished / "report.json").read_text())["test_accuracies"]):
        with np.load(finished / f"seed-{seed}" / "log_probs.npz") as arrays:
            assert (arrays["log_probs"].argmax(axis=1) == labels).mean() == accuracy
        last = (finished / f"seed-{seed}" / "metrics.csv").read_text().splitlines()[-1].split(",")
        assert (float(last[0]), float(last[3])) == (20, accuracy)


def test_no_plot_is_empty(finished):
    assert {path.name for path in finished.glob("*.png")} == PLOTS
    for name in PLOTS:
        assert imread(finished / name)[..., :3].std() > 0.05


def test_finished_seeds_are_not_trained_again(finished):
    before = files(finished)
    for leftover in (".seed-0.unfinished/epoch-1/weights.npz", ".mistakes.png.1.0123abcd.tmp"):  # left by a kill
        (finished / leftover).parent.mkdir(parents=True, exist_ok=True)
        (finished / leftover).touch()
    for seeds in (2, 1):  # the report of two is not replaced by one of one
        main(ScratchOptions(recipe="tuned", seeds=seeds, data="digits", out=finished))
        assert files(finished) == before


@pytest.mark.parametrize("recipe", ["classic", "deformed"])
def test_an_interrupted_training_ends_in_identical_results(tmp_path, monkeypatch, recipe):
    short = replace(RECIPES[recipe](), widths=(784, 16, 10), epochs=8)
    monkeypatch.setitem(RECIPES, recipe, lambda: short)
    options = ScratchOptions(recipe=recipe, data="digits", out=tmp_path / "whole")
    main(options)

    monkeypatch.setattr(train_scratch, "SAVE_SECONDS", 0)
    save_checkpoint, cut = (
        train_scratch.save_checkpoint,
        ScratchOptions(recipe=recipe, data="digits", out=tmp_path / "cut"),
    )

    def stop_at_the_fourth(unfinished, state, *rest):
        save_checkpoint(unfinished, state, *rest)
        if state.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_scratch, "save_checkpoint", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        main(cut)
    assert {path.name for path in (tmp_path / "cut" / ".seed-0.unfinished").iterdir()} == {"epoch-3", "epoch-4"}
    monkeypatch.setattr(train_scratch, "save_checkpoint", save_checkpoint)
    main(cut)

    whole, again = (load_params(tmp_path / name / "seed-0" / "weights.npz") for name in ("whole", "cut"))
    for left, right in zip(sum(whole, ()), sum(again, ()), strict=True):
        np.testing.assert_array_equal(left, right)
    epochs = [line.split(",")[0] for line in (tmp_path / "cut" / "seed-0" / "metrics.csv").read_text().splitlines()]
    assert epochs == ["epoch", *map(str, range(1, 9))]
    assert not list((tmp_path / "cut").glob(".*"))


def test_another_environment_is_an_error_or_a_warning(finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "out")
    options = ScratchOptions(recipe="tuned", seeds=2, data="digits", out=out, require_identical=True)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "another")
    main(options)  # nothing to compute
    shutil.rmtree(out / "seed-1")
    with pytest.raises(InputError, match="out: the bits may differ: OPENBLAS_CORETYPE another, was "):
        main(options)
    assert not (out / "seed-1").exists()
    with pytest.warns(UserWarning, match="out: the bits may differ: OPENBLAS_CORETYPE another, was "):
        main(replace(options, require_identical=False))
    assert (out / "seed-1").is_dir()


def test_validation_does_not_read_test_rows(tmp_path, monkeypatch):
    digits = data.load("digits")
    monkeypatch.setattr(data, "load", lambda *arguments: digits._replace(x_test=digits.x_test[:0], y_test=None))
    main(ScratchOptions(validate=True, data="digits", out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["train_rows"], report["valid_rows"]) == (1199, 239)
    assert report["valid_accuracy_mean"] > 0.8
    assert not any(name.startswith("test_") for name in report)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "0"], "--seeds: is 0"),
        (["--seeds", "100000000"], "--seeds: is 100000000"),
        (["--data", "colours.npz"], "has colour images"),
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


def test_another_recipe_is_an_error(finished):
    before = files(finished)
    with pytest.raises(ValueError, match="another recipe"):
        main(ScratchOptions(recipe="classic", data="digits", out=finished))
    assert files(finished) == before


def test_a_second_training_in_the_same_directory_is_an_error(tmp_path):
    with locked(tmp_path / ".lock"), pytest.raises(InputError, match="is being written by process"):
        main(ScratchOptions(recipe="tuned", data="digits", out=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unfinished(tmp_path):
    """The checkpoints of an unfinished training, saved after epochs 1, 2 and 10."""
    for epoch in (1, 2, 10):
        params = init_params(np.random.default_rng(epoch), (4, 2))
        save_checkpoint(tmp_path, State(epoch, params, params), [{"epoch": epoch, "loss": 0.5}], {"made": "here"})
    return tmp_path


def test_two_checkpoints_are_kept_and_the_last_one_is_resumed(unfinished):
    state, history = resume(unfinished, {"made": "here"})
    assert (state.epoch, history) == (10, [{"epoch": 10, "loss": 0.5}])
    np.testing.assert_equal(state.params, init_params(np.random.default_rng(10), (4, 2)))
    assert {path.name for path in unfinished.iterdir()} == {"epoch-2", "epoch-10"}
    assert resume(unfinished / "none", {}) == (None, [])
    with pytest.raises(InputError, match="epoch-2: was trained with other settings"), pytest.warns(match="epoch-10"):
        resume(unfinished, {"made": "elsewhere"})


@pytest.mark.parametrize("damaged", ["weights.npz", "velocity.npz", "metrics.csv", "seal.json"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(unfinished, damaged):
    (unfinished / "epoch-10" / damaged).write_bytes(b"")
    with pytest.warns(UserWarning, match=f"epoch-10/{damaged}: .*; epoch-10 is skipped"):
        state, history = resume(unfinished, {"made": "here"})
    assert (state.epoch, history) == (2, [{"epoch": 2, "loss": 0.5}])
    save_checkpoint(unfinished, state._replace(epoch=3), history, {"made": "here"})
    assert {path.name for path in unfinished.iterdir()} == {"epoch-2", "epoch-3"}
    for epoch in (2, 3):
        (unfinished / f"epoch-{epoch}" / damaged).write_bytes(b"")
    with pytest.raises(InputError, match=f"epoch-2/{damaged}: .*delete the folder"), pytest.warns(match="epoch-3"):
        resume(unfinished, {"made": "here"})


def of_another_accuracy(seed):
    text = (seed / "metrics.csv").read_text()
    (seed / "metrics.csv").write_text(text[:-9] + str((int(text[-9]) + 1) % 10) + text[-8:])


def swapped(seed):
    shutil.rmtree(seed)
    shutil.copytree(seed.with_name("seed-1"), seed)


DAMAGES = {
    "another accuracy": (of_another_accuracy, r"metrics\.csv: was changed after it was written"),
    "no weights": (lambda seed: (seed / "weights.npz").unlink(), r"weights\.npz: is missing"),
    "another seed": (swapped, "was trained with other settings, data or another seed"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_seed_is_an_error_and_not_used(finished, tmp_path, damage, words):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    damage(out / "seed-0")
    before = files(out)
    for seeds in (1, 2):
        with pytest.raises(InputError, match=f"seed-0.*{words}"):
            main(ScratchOptions(recipe="tuned", seeds=seeds, data="digits", out=out))
    with pytest.raises(InputError, match=f"seed-0.*{words}"):
        publish.main(publish.PublishOptions(scratch=out, out=tmp_path / "published"))
    if damage is not swapped:
        with pytest.raises(InputError, match=f"seed-0.*{words}"):
            predict_scratch(out, np.zeros((8, 8), np.uint8))
    assert files(out) == before
    assert not (tmp_path / "published").exists()


def test_predictions_that_are_not_finite_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(train_scratch, "predict", lambda params, images, settings: np.full((len(images), 10), np.nan))
    with pytest.raises(DivergedError, match="seed-0: not all predictions are finite"):
        main(ScratchOptions(recipe="tuned", data="digits", out=tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"job.json"}


def test_images_that_need_too_many_weights_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(train_scratch, "MAX_WEIGHTS", 64 * 64 + 64 * 10 - 1)
    with pytest.raises(InputError, match="data digits: has images of 8 x 8, which take more than 4,735 weights"):
        main(ScratchOptions(recipe="tuned", data="digits", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("report.json", "{}", r"report\.json: was changed after it was written"),
        ("report.json", "[", r"report\.json: is damaged"),
        ("job.json", None, r"job\.json: cannot be read"),
        ("job.json", "{}", "seed-0: was trained with other settings"),
        ("seed-0", None, "contains no seed-0.*give the output directory of a finished"),
    ],
)
def test_incomplete_results_are_not_published(finished, tmp_path, name, content, words):
    shutil.copytree(finished, tmp_path / "out")
    path = tmp_path / "out" / name
    if content is not None:
        path.write_text(content)
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=words):
        publish.main(publish.PublishOptions(scratch=tmp_path / "out", out=tmp_path / "published"))
    assert not (tmp_path / "published").exists()


def rewritten(path, **changes):
    """Change a report and its checksum."""
    report = read_report(path) | changes
    path.write_text(json.dumps(report | {"sha256": checksum_of(report)}))


def test_a_changed_report_is_not_published(finished, tmp_path):
    path = Path(shutil.copytree(finished, tmp_path / "out")) / "report.json"
    accuracies = read_report(path)["test_accuracies"]
    path.write_text(path.read_text().replace(str(accuracies[0]), "0.9999"))
    for words in (
        r"report\.json: was changed after it was written",
        r"report\.json: does not match the trained models",
    ):
        with pytest.raises(InputError, match=words):
            publish.main(publish.PublishOptions(scratch=tmp_path / "out", out=tmp_path / "published"))
        shutil.copy(finished / "report.json", path)
        rewritten(path, test_accuracies=[0.9999, accuracies[1]])
    assert not (tmp_path / "published").exists()


def test_the_published_recipe_is_that_of_the_manifest(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    image = data.load("digits").x_test[0, ..., 0]
    prediction = predict_scratch(out, image)
    rewritten(out / "report.json", settings={"widths": [64, 64, 10], "activation": "tanh"})
    publish.main(publish.PublishOptions(scratch=out, out=tmp_path))
    np.testing.assert_array_equal(predict_scratch(tmp_path / "scratch", image), prediction)
    (out / "job.json").write_text('{"recipe": {"activation": "tanh"}}')
    np.testing.assert_array_equal(predict_scratch(out, image), prediction)


def test_a_training_evaluated_on_validation_rows_is_not_published(finished, tmp_path):
    """As --validate leaves it: the page of `draw` has no place for such an accuracy."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    job = read_settings(out) | {"scored": "valid"}
    (out / "job.json").write_text(json.dumps(job))
    write_manifest(out / "seed-0", job | {"seed": 0})
    with pytest.raises(InputError, match="out: was evaluated on validation rows"):
        publish.main(publish.PublishOptions(scratch=out, out=tmp_path / "published"))
    assert not (tmp_path / "published").exists()


def test_the_first_seed_can_be_published_once(finished, tmp_path):
    options = publish.PublishOptions(scratch=finished, out=tmp_path)
    publish.main(options)
    assert check_manifest(tmp_path / "scratch") == read_settings(finished)
    ours, theirs = (load_params(path / "weights.npz") for path in (tmp_path / "scratch", finished / "seed-0"))
    for layer in zip(ours, theirs, strict=True):
        np.testing.assert_equal(*layer)
    before = files(tmp_path)
    publish.main(options)
    assert files(tmp_path) == before
    (tmp_path / "scratch" / "notes").touch()
    with pytest.raises(InputError, match="already exists"):
        publish.main(options)
    with pytest.raises(InputError, match=r"contains no report\.json"):
        publish.main(publish.PublishOptions(scratch=tmp_path, out=tmp_path / "out"))
    with pytest.raises(InputError, match="--jobs: missing"):
        publish.main(publish.PublishOptions())
