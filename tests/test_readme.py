"""Runs the README's Python from top to bottom, in one namespace, and holds what it says of it."""

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

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def namespace(tmp_path_factory, quick_compilation):
    """All names that the code has made, run in a folder with an exported network."""
    folder, names = tmp_path_factory.mktemp("readme"), {"__name__": "readme"}
    runs = (PRETRAINED / "wide_cnn",)
    export.main(export.ExportOptions(runs=runs, out=folder / "checkpoints" / "ensemble.jax"))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.chdir(folder)
        for source in re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S):
            exec(compile(source, README.name, "exec"), names)
    return names


def test_the_loop_learns_a_hundred_classes_of_colour_images(namespace):
    rng = np.random.default_rng(0)
    images, labels = rng.random((16, 32, 32, 3), np.float32), rng.permutation(100)[:16]
    start = split(namespace["create_model"]("senet", width=16, in_channels=3, num_classes=100))[1:]
    trained = namespace["train"](*start, images, labels, epochs=15, batch_size=8)
    logits = trained(images)
    assert logits.shape == (16, 100)
    np.testing.assert_array_equal(logits.argmax(axis=1), labels)


def test_frozen_features_read_another_handwriting_better_than_pixels_do(namespace):
    features, pixels, labels = (namespace[name] for name in ("features", "pixels", "labels"))

    def scores(inputs, count):
        for seed in range(5):
            draw = {"train_size": count, "stratify": labels, "random_state": seed}
            train, test = train_test_split(np.arange(len(labels)), **draw)
            yield LogisticRegression(max_iter=2000).fit(inputs[train], labels[train]).score(inputs[test], labels[test])

    said = re.findall(r"(\d\d\.\d) ± ", README.read_text(encoding="utf-8").split("labelled digits")[1])[:4]
    found = [np.mean(list(scores(inputs, count))) for count in (100, 500) for inputs in (features, pixels / 16)]
    np.testing.assert_allclose(100 * np.array(found), list(map(float, said)), atol=0.2)


def test_a_block_is_swapped_and_a_head_is_new(namespace):
    model, network = namespace["model"], namespace["network"]
    params = split(model)[1]
    assert "scale" in params["blocks"][1]
    assert "scale" not in params["blocks"][0]
    images = namespace["images"][:2]
    model.eval()
    assert np.isfinite(jax.jit(lambda images: model(images))(images)).all()
    features, logits = jax.jit(lambda images: (network.features(images), network(images)))(images)
    assert logits.shape == (2, 26)
    np.testing.assert_allclose(features, namespace["features"][:2], rtol=1e-4, atol=1e-5)


def test_what_was_exported_answers(namespace):
    right = namespace["probabilities"].argmax(axis=1) == namespace["labels"][:8]
    assert right.sum() > 3  # six are usual, and chance gives one
