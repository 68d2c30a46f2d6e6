import shutil

import numpy as np
import pytest
from flax import nnx

from experiments.demo.predictor import VIEWS, Calibration, Predictor, load_all
from experiments.tools.list_models import pretrained_accuracy
from jaxnets.errors import InputError
from jaxnets.models import create_model
from jaxnets.normalise import normalise
from jaxnets.store import weights
from jaxnets.store.weights import PRETRAINED
from scratch.mlp import init_params
from scratch.train import MLPConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def models():
    models = {name: create_model(name, width=8, depth=2, rngs=nnx.Rngs(0)) for name in ("wide_cnn", "senet")}
    for model in models.values():
        model.eval()
    return models


@pytest.fixture(scope="module")
def predictor(models):
    settings = MLPConfig(widths=(784, 8, 10))
    return Predictor(models, (init_params(np.random.default_rng(0), settings.widths), settings))


@pytest.fixture
def ink():
    ink = np.zeros((168, 168), np.uint8)
    ink[30:120, 40:50] = ink[30:40, 40:90] = 255
    return ink


def test_each_model_gives_the_probabilities_of_a_separate_call(models, predictor, ink):
    prediction = predictor(ink)
    assert predictor.names == list(models)
    assert (prediction.views.shape, prediction.members.shape) == ((VIEWS, 28, 28), (2, VIEWS, 10))
    np.testing.assert_allclose(prediction.members.sum(-1), 1, rtol=1e-5)
    image = normalise(ink)[None, ..., None].astype(np.float32) / 255
    for name, found in zip(models, prediction.members, strict=True):
        np.testing.assert_allclose(found[:1], nnx.softmax(models[name](image)), rtol=1e-4)
    assert len(np.unique(prediction.members[0].round(6), axis=0)) == VIEWS


def test_the_confidence_of_the_ensemble_is_calibrated(models, ink):
    scratch = (init_params(np.random.default_rng(0), (784, 8, 10)), MLPConfig(widths=(784, 8, 10)))
    prediction = Predictor(models, scratch, Calibration(temperature=0.5, threshold=0.9))(ink)
    squares = prediction.members[:, 0].mean(axis=0) ** 2
    np.testing.assert_allclose(prediction.ensemble, squares / squares.sum(), rtol=1e-4)


def test_the_views_are_the_inputs_of_the_models(models, predictor, ink):
    prediction = predictor(ink)
    np.testing.assert_array_equal(prediction.views[0], normalise(ink))
    seen = prediction.views[..., None].astype(np.float32) / 255
    np.testing.assert_allclose(prediction.members[0], nnx.softmax(models["wide_cnn"](seen)), atol=2e-2)
    assert prediction.views.max(axis=(1, 2)).min() > 128


def test_predictions_repeat_and_need_ink(predictor, ink):
    for first, second in zip(predictor(ink), predictor(ink), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="no ink"):
        predictor(0 * ink)


def test_missing_models_are_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no pretrained model 'resnet'; it has none\. Fix: restore the folder"):
        load_all(tmp_path)


def test_a_family_that_is_not_published_is_left_out(tmp_path):
    for name in ("senet", "scratch"):
        shutil.copytree(PRETRAINED / name, tmp_path / name)
    assert load_all(tmp_path).names == ["senet"]


@pytest.mark.parametrize("name", ["senet", "scratch"])
def test_modified_models_are_rejected(tmp_path, name):
    shutil.copytree(PRETRAINED, tmp_path / "pretrained")
    (tmp_path / "pretrained" / name / "result.json").write_text('{"test_accuracy": 1, "test_accuracy_mean": 1}')
    with pytest.raises(InputError, match=rf"{name}/result\.json: was changed after it was written"):
        load_all(tmp_path / "pretrained")


def test_a_modified_accuracy_is_rejected(tmp_path, monkeypatch):
    shutil.copytree(PRETRAINED / "senet", tmp_path / "senet")
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    assert pretrained_accuracy("senet").startswith("99.")
    (tmp_path / "senet" / "result.json").write_text('{"test_accuracy": 1}')
    with pytest.raises(InputError, match=r"senet/result\.json: was changed after it was written"):
        pretrained_accuracy("senet")
