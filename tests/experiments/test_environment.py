"""Results that are computed in another environment than the rest: every stage warns or raises."""

import json
import shutil

import jax
import numpy as np
import pytest

from experiments import ensemble, evaluate, pipeline, predict, pseudo_label, train
from experiments.cli.options import Options
from experiments.cli.output_dir import compare_once
from experiments.ensemble import EnsembleOptions
from experiments.evaluate import EvaluateOptions
from experiments.pipeline import PipelineOptions
from experiments.train import TrainOptions
from jaxnets.errors import InputError
from jaxnets.store import fingerprint
from jaxnets.store.manifest import check_manifest, write_manifest
from tests.experiments.processes import files

pytestmark = pytest.mark.usefixtures("quick_compilation")
STUDENT = "members/deep_cnn-0-student"
OTHER_LABELS = rf"{STUDENT}: was trained on other pseudo-labels than the current ones"


@pytest.fixture
def job(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "job")


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(fingerprint, "processors", lambda: 99)


def start(main, options, out, **given):
    main(options(preset="smoke", data="digits", out=out, compilation_cache=False, **given))


def change(path, name, function):
    """Change an array of a sealed directory, and seal it again."""
    made_from = check_manifest(path.parent)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {name: function(arrays[name])})
    write_manifest(path.parent, made_from)


@pytest.mark.parametrize(
    ("main", "options", "missing"),
    [
        (train.main, TrainOptions, "members/resnet-0"),
        (predict.main, Options, "predictions/senet-0"),
        (pseudo_label.main, Options, "pseudo_labels"),
        (ensemble.main, EnsembleOptions, "ensemble"),
        (pipeline.main, PipelineOptions, "ensemble"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_no_stage_computes_in_another_environment_if_results_must_be_identical(job, main, options, missing):
    start(main, options, job, require_identical=True)  # nothing to compute
    shutil.rmtree(job / missing)
    before = files(job)
    with pytest.raises(InputError, match=r"job: the bits may differ: .*processors 99, was \d+"):
        start(main, options, job, require_identical=True)
    assert files(job) == before


@pytest.mark.usefixtures("elsewhere")
def test_another_environment_is_recorded(job, monkeypatch):
    shutil.rmtree(job / "ensemble")
    with pytest.warns(UserWarning, match="the bits may differ") as caught:
        start(ensemble.main, EnsembleOptions, job)
    assert len(caught) == 1
    record = json.loads((job / "job.json").read_text())
    [later] = record["later_fingerprints"]
    assert (later["processors"], record["fingerprint"]["processors"] == 99) == (99, False)
    with pytest.raises(InputError, match="job: the bits may differ"):  # even where the first results were computed
        compare_once(job, record["fingerprint"], identical=True)()


def test_a_missing_or_damaged_fingerprint_is_an_error(tmp_path):
    for content, words in (
        ({}, "was not recorded"),
        ({"fingerprint": 3}, "a fingerprint is not an object"),
    ):
        (tmp_path / "job.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=words):
            compare_once(tmp_path, fingerprint.fingerprint(jax.devices()), identical=True)()


def test_pseudo_labels_are_kept_if_predictions_change_in_their_last_bits(job):
    before = files(job / "pseudo_labels")
    change(job / "predictions" / "senet-0" / "test.npz", "log_probs", lambda log_probs: log_probs - 1e-6)
    start(pseudo_label.main, Options, job)
    assert files(job / "pseudo_labels") == before


def test_a_student_trained_on_other_pseudo_labels_is_kept(job):
    options = {"family": "deep_cnn", "student": True}
    change(job / "pseudo_labels" / "selected.npz", "targets", lambda targets: targets * 0.999)
    before = files(job)
    with pytest.warns(UserWarning, match=OTHER_LABELS + "; it is kept"):
        start(train.main, TrainOptions, job, **options)
    with pytest.raises(InputError, match=OTHER_LABELS):
        start(train.main, TrainOptions, job, **options, require_identical=True)
    assert files(job) == before
    shutil.rmtree(job / STUDENT)
    shutil.copytree(job / "members" / "deep_cnn-0", job / STUDENT)
    with pytest.raises(InputError, match=f"{STUDENT}: was trained with other settings or pseudo-labels"):
        start(train.main, TrainOptions, job, **options)


def test_models_without_an_output_directory_cannot_be_compared(tmp_path):
    options = EvaluateOptions(runs=(tmp_path,), data="digits", require_identical=True)
    with pytest.raises(InputError, match="--require-identical: needs an output directory"):
        evaluate.main(options)
