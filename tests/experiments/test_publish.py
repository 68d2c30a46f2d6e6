import json
import shutil

import numpy as np
import pytest

from experiments import ensemble, evaluate
from experiments.ensemble import EnsembleOptions
from experiments.evaluate import EvaluateOptions
from experiments.pipeline import PipelineOptions, main
from experiments.reporting.results import read_report
from experiments.tools import publish
from jaxnets.data import load
from jaxnets.errors import InputError
from jaxnets.store.manifest import check_manifest, committed_folder, write_manifest
from tests.experiments.processes import files, read_submission


@pytest.fixture(scope="module")
def published(whole, tmp_path_factory):
    """The published models of the pipeline."""
    out = tmp_path_factory.mktemp("published")
    publish.main(publish.PublishOptions(jobs=(whole,), out=out))
    return sorted(out.iterdir())


@pytest.fixture
def score(tmp_path):
    """score(folders, **options) -> the report of `evaluate --runs`."""

    def call(folders, **options):
        given = {"data": "digits", "views": 3, "runs": tuple(folders), "compilation_cache": False, "devices": 1}
        evaluate.main(EvaluateOptions(**(given | options), out=tmp_path))
        return json.loads((tmp_path / "report.json").read_text())

    return call


@pytest.mark.usefixtures("quick_compilation")
def test_published_models_predict_as_in_the_run(whole, published, score, tmp_path):
    report, before = score(published), json.loads((whole / "report.json").read_text())
    expected = {member["family"]: member for member in before["members"] if not member["student"]}
    keys = ("valid_accuracy", "tta_valid_accuracy", "test_accuracy", "tta_test_accuracy", "parameters", "train_seconds")
    for member in report["members"]:
        assert {key: member[key] for key in keys} == {key: expected[member["family"]][key] for key in keys}
    assert set(report) == set(before)
    assert report["ensemble"]["test_accuracy"] == before["ensemble"]["inductive_test_accuracy"]
    wrong = round((1 - report["ensemble"]["test_accuracy"]) * 359)
    assert len((tmp_path / "mistakes.csv").read_text().splitlines()) == 1 + wrong


@pytest.mark.usefixtures("quick_compilation")
def test_models_are_evaluated_in_the_precision_that_is_asked_for(published, score):
    reports = [score(published[:1], precision=precision) for precision in ("float32", "bfloat16")]
    assert [report["precision"] for report in reports] == ["float32", "bfloat16"]
    exact, rounded = (report["ensemble"]["valid_nll"] for report in reports)
    assert exact != rounded
    np.testing.assert_allclose(rounded, exact, rtol=0.1)


def test_the_pipeline_writes_error_plots(whole):
    plots = {"confusion", "missed", "members", "disagreement", "reliability"}
    assert {path.stem for path in whole.glob("*.png")} == plots
    assert min(path.stat().st_size for path in whole.glob("*.png")) > 5_000


def test_a_published_model_has_provenance(whole, published):
    result = json.loads((published[0] / "result.json").read_text())
    precision = json.loads((whole / "job.json").read_text())["precision"]
    options = f"--preset smoke --data digits --precision {precision} --seed 0 --seeds 1"
    assert result["command"] == f"python -m experiments.pipeline {options}"
    assert list(result["test_accuracies_by_seed"].values()) == [result["test_accuracy"]] == [result["mean"]]
    assert {path.name for path in published[0].iterdir()} == {
        *("config.json", "metrics.csv", "result.json", "seal.json", "train_rows.npy", "weights.npz")
    }


def test_results_of_several_seeds_are_combined():
    member = {"family": "senet", "student": False, "train_seconds": 1.0}
    members = [member | {"seed": seed, "test_accuracy": accuracy} for seed, accuracy in ((4, 0.99), (5, 0.97))]
    report = {"preset": "quick", "data": "mnist", "seed": 4, "device": "", "jax_version": ""}
    reports = [report | {"members": members}]
    command = publish.command_of(reports[0], {"precision": "bfloat16", "fold": [0, 20]})
    result = publish.family_result(reports, command, "senet")
    assert result["command"].endswith("--precision bfloat16 --fold 0 20 --seed 4 --seeds 2")
    assert result["test_accuracies_by_seed"] == {"4": 0.99, "5": 0.97}
    np.testing.assert_allclose([result["mean"], result["sd"]], [0.98, 0.02 / np.sqrt(2)])


def test_published_models_are_not_overwritten(whole, published):
    out = published[0].parent
    before = files(out)
    publish.main(publish.PublishOptions(jobs=(whole,), out=out))
    assert files(out) == before
    with pytest.raises(InputError, match="duplicate models"):
        publish.main(publish.PublishOptions(jobs=(whole, whole), out=whole / "twice"))


def test_runs_with_different_settings_are_not_published_together(whole, tmp_path):
    for name in ("report.json", "job.json"):
        shutil.copy(whole / name, tmp_path)
    job = json.loads((tmp_path / "job.json").read_text())
    job["preset"]["valid_fraction"] /= 2
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(InputError, match="other settings"):
        publish.main(publish.PublishOptions(jobs=(whole, tmp_path), out=tmp_path / "out"))


@pytest.mark.usefixtures("quick_compilation")
def test_models_for_other_image_shapes_are_not_evaluated(published, score, tmp_path):
    images, labels = np.zeros((20, 9, 9), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "large.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(InputError, match=r"classes\) \(8, 8, 1, 10\), data large has \(9, 9, 1, 2\)"):
        score(published[:1], data=str(tmp_path / "large.npz"))


@pytest.mark.filterwarnings("ignore:.*the bits may differ")
@pytest.mark.usefixtures("quick_compilation")
def test_an_ensemble_of_other_members_is_recomputed(whole, tmp_path):
    out = tmp_path / "job"
    shutil.copytree(whole, out)
    options = EnsembleOptions(preset="smoke", data="digits", out=out, compilation_cache=False)
    shutil.rmtree(out / "members" / "senet-0")
    ensemble.main(options)
    summary = json.loads((out / "ensemble" / "summary.json").read_text())
    assert (len(summary["members"]), len(summary["weights"])) == (5, 5)
    predictions = np.load(out / "ensemble" / "log_probs_test.npz")["log_probs"].argmax(axis=1)
    np.testing.assert_array_equal(read_submission(out / "submission.csv"), predictions)
    evaluate.main(EvaluateOptions(preset="smoke", data="digits", out=out, compilation_cache=False))
    report = json.loads((out / "report.json").read_text())
    assert len(report["members"]) == 5
    assert report["total_seconds"] > 0  # the pipeline reuses this report and shows it
    assert report["ensemble"]["test_accuracy"] == (predictions == load("digits").y_test).mean()


@pytest.mark.usefixtures("quick_compilation")
def test_models_are_not_evaluated_on_their_training_rows(published, score, tmp_path):
    digits = load("digits")
    leaky = tmp_path / "leaky.npz"
    images = np.concatenate([digits.x_test, digits.x_train[:400]])
    labels = np.concatenate([digits.y_test, digits.y_train[:400]])
    np.savez(leaky, x_train=digits.x_train, y_train=digits.y_train, x_test=images, y_test=labels)
    with pytest.raises(InputError, match=r"was trained on \d+ of the 759 test images"):
        score(published[:1], data=str(leaky))
    with pytest.raises(InputError, match=r"has \d+ test images among its training images"):
        main(PipelineOptions(preset="smoke", data=str(leaky), out=tmp_path / "job", compilation_cache=False))
    assert not (tmp_path / "job").exists()
    report = score(published[:1], data=str(leaky), allow_trained_rows=True)
    assert 300 < report["trained_rows_scored"] <= 400


def test_a_model_without_manifest_is_not_evaluated(published, score, tmp_path):
    shutil.copytree(published[0], tmp_path / "unsealed")
    (tmp_path / "unsealed" / "seal.json").unlink()
    with pytest.raises(InputError, match="unsealed: has no seal"):
        score([tmp_path / "unsealed"])
    assert not (tmp_path / "report.json").exists()


@pytest.mark.usefixtures("quick_compilation")
def test_a_model_without_hashes_of_its_training_rows_is_not_evaluated(published, score, tmp_path):
    unknown = tmp_path / "unknown"
    shutil.copytree(published[0], unknown)
    (unknown / "train_rows.npy").unlink()
    write_manifest(unknown, {})
    with pytest.raises(InputError, match="does not record which images it was trained on"):
        score([unknown])
    report = score([unknown], allow_trained_rows=True)
    assert (report["valid_rows"], report["trained_rows_scored"]) == (0, None)
    assert report["members"][0]["valid_accuracy"] is report["ensemble"]["temperature"] is None


def test_an_interrupted_publication_resumes(whole, published, tmp_path, monkeypatch):
    def killed(target, made_from):
        if target.name == "inception":
            raise KeyboardInterrupt
        return committed_folder(target, made_from)

    options = publish.PublishOptions(jobs=(whole,), out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "committed_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            publish.main(options)
    assert 0 < len(list(tmp_path.iterdir())) < len(published)
    publish.main(options)
    assert files(tmp_path) == files(published[0].parent)


def test_all_models_are_published_or_none(whole, tmp_path):
    senet = tmp_path / "out" / "senet"
    senet.mkdir(parents=True)
    with pytest.raises(InputError, match="senet: already exists"):
        publish.main(publish.PublishOptions(jobs=(whole,), out=tmp_path / "out"))
    assert list((tmp_path / "out").rglob("*")) == [senet]


@pytest.fixture
def job(whole, tmp_path):
    """A copy of the pipeline's output for the test to damage."""
    shutil.copytree(whole, tmp_path / "job")
    return tmp_path / "job"


def test_a_model_that_was_not_evaluated_is_not_published(job, tmp_path):
    shutil.rmtree(job / "members" / "senet-0")
    shutil.copytree(job / "members" / "resnet-0", job / "members" / "senet-0")
    with pytest.raises(InputError, match="senet-0: is not the model that was evaluated"):
        publish.main(publish.PublishOptions(jobs=(job,), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_not_published(job, tmp_path):
    (job / "members" / "senet-0" / "metrics.csv").write_text("")
    with pytest.raises(InputError, match=r"senet-0/metrics\.csv: was changed after it was written"):
        publish.main(publish.PublishOptions(jobs=(job,), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def replace_predictions(job, name):
    """Replace the predictions of a model by others with a valid manifest."""
    path = job / "predictions" / name / "test.npz"
    with np.load(path) as file:
        log_probs = file["log_probs"][:, ::-1]
    made_from = check_manifest(path.parent)
    np.savez(path, log_probs=log_probs)
    write_manifest(path.parent, made_from)


def test_an_ensemble_of_other_predictions_is_neither_evaluated_nor_published(job, tmp_path):
    replace_predictions(job, "senet-0")
    before = files(job)
    with pytest.raises(InputError, match=r"ensemble: was made from other predictions.*run experiments.ensemble again"):
        evaluate.main(EvaluateOptions(preset="smoke", data="digits", out=job, compilation_cache=False))
    with pytest.raises(InputError, match="ensemble: was made from other predictions"):
        publish.main(publish.PublishOptions(jobs=(job,), out=tmp_path / "out"))
    assert files(job) == before


@pytest.mark.filterwarnings("ignore:.*the bits may differ")
@pytest.mark.usefixtures("quick_compilation")
def test_a_model_of_another_seed_is_not_a_student(job):
    for folder in ("members", "predictions"):
        for path in (job / folder).glob("*-0"):
            shutil.rmtree(path) if path.name != "wide_cnn-0" else path.rename(path.with_name("wide_cnn-1"))
    options = {"preset": "smoke", "data": "digits", "out": job, "compilation_cache": False}
    ensemble.main(EnsembleOptions(seeds=2, **options))
    evaluate.main(EvaluateOptions(**options))  # with the preset's single seed
    report = read_report(job / "report.json")
    [teacher] = [member for member in report["members"] if not member["student"]]
    assert report["ensemble"]["inductive_test_accuracy"] == teacher["tta_test_accuracy"]


def test_a_modified_report_is_not_published(job, tmp_path):
    path = job / "report.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(InputError, match=r"report.json: was changed after it was written"):
        publish.main(publish.PublishOptions(jobs=(job,), out=tmp_path / "out"))


@pytest.mark.usefixtures("quick_compilation")
def test_a_report_of_other_labels_is_recomputed(job, tmp_path):
    digits = load("digits")
    data, options = tmp_path / "data.npz", {"preset": "smoke", "out": job, "compilation_cache": False}
    for labels in (digits.y_test, (digits.y_test + 1) % 10):
        np.savez(data, x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test, y_test=labels)
        main(PipelineOptions(data=str(data), **options))
        accuracy = (read_submission(job / "submission.csv") == labels).mean()
        assert json.loads((job / "report.json").read_text())["ensemble"]["test_accuracy"] == accuracy
