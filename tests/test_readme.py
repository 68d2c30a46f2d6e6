"""Runs the Python code of README.md and docs/LIBRARY.md, and checks its results and the accuracies stated there."""

import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from experiments.tools import export
from jaxnets.models.functional import split
from jaxnets.store.weights import PRETRAINED

ROOT = Path(__file__).parents[1]
README, LIBRARY = ROOT / "README.md", ROOT / "docs" / "LIBRARY.md"


def run_code(document):
    """Run a document's Python blocks in one namespace, with warnings as errors -> the namespace."""
    names = {"__name__": "document"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in re.findall(r"^```python\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S):
            exec(compile(source, document.name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def namespace(tmp_path_factory, quick_compilation):
    """The names that the library page defines, run in a directory with an exported model."""
    folder = tmp_path_factory.mktemp("library")
    runs = (PRETRAINED / "wide_cnn",)
    export.main(export.ExportOptions(runs=runs, out=folder / "checkpoints" / "ensemble.jax"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_code(LIBRARY)


def test_the_readme_example_runs(quick_compilation):
    names = run_code(README)
    assert names["classes"].shape == (8,)
    assert names["features"].shape == (8, 128)


def test_the_loop_learns_a_hundred_classes_of_colour_images(namespace):
    rng = np.random.default_rng(0)
    images, labels = rng.random((16, 32, 32, 3), np.float32), rng.permutation(100)[:16]
    start = split(namespace["create_model"]("senet", width=16, in_channels=3, num_classes=100))[1:]
    trained = namespace["train"](*start, images, labels, epochs=15, batch_size=8)
    logits = trained(images)
    assert logits.shape == (16, 100)
    np.testing.assert_array_equal(logits.argmax(axis=1), labels)


def test_frozen_features_classify_other_handwriting_better_than_pixels(namespace):
    features, pixels, labels = (namespace[name] for name in ("features", "pixels", "labels"))

    def scores(inputs, count):
        for seed in range(5):
            options = {"train_size": count, "stratify": labels, "random_state": seed}
            train, test = train_test_split(np.arange(len(labels)), **options)
            yield LogisticRegression(max_iter=2000).fit(inputs[train], labels[train]).score(inputs[test], labels[test])

    stated = re.findall(r"(\d\d\.\d) ± ", LIBRARY.read_text(encoding="utf-8").split("labelled digits")[1])[:4]
    found = [np.mean(list(scores(inputs, count))) for count in (100, 500) for inputs in (features, pixels / 16)]
    np.testing.assert_allclose(100 * np.array(found), list(map(float, stated)), atol=0.2)


def test_a_block_and_a_head_are_replaced(namespace):
    model, pretrained = namespace["model"], namespace["pretrained"]
    params = split(model)[1]
    assert "scale" in params["blocks"][1]
    assert "scale" not in params["blocks"][0]
    images = namespace["images"][:2]
    model.eval()
    assert np.isfinite(jax.jit(lambda images: model(images))(images)).all()
    features, logits = jax.jit(lambda images: (pretrained.features(images), pretrained(images)))(images)
    assert logits.shape == (2, 26)
    np.testing.assert_allclose(features, namespace["features"][:2], rtol=1e-4, atol=1e-5)


def test_the_exported_model_predicts(namespace):
    correct = namespace["probabilities"].argmax(axis=1) == namespace["labels"][:8]
    assert correct.sum() > 3  # six are usual, and chance gives one
