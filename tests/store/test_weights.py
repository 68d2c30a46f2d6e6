import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models import MODELS, create_model, load_pretrained
from jaxnets.models.functional import split
from jaxnets.store.manifest import write_manifest
from jaxnets.store.weights import PRETRAINED, read_weights, write_weights

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = {"width": 4, "depth": 1}


@pytest.fixture
def model():
    return create_model("wide_cnn", **SIZES, rngs=nnx.Rngs(1))


@pytest.fixture
def published(model, tmp_path):
    """A folder with one published model."""
    config = {"recipe": {"family": "wide_cnn", "sizes": SIZES}, "image_shape": [28, 28, 1], "num_classes": 10}
    (tmp_path / "wide_cnn").mkdir()
    (tmp_path / "wide_cnn" / "config.json").write_text(json.dumps(config))
    _, params, stats = split(model)
    write_weights(tmp_path / "wide_cnn" / "weights.npz", {"params": params, "stats": stats})
    write_manifest(tmp_path / "wide_cnn", {})
    return tmp_path


def load_with_new_manifest(folder):
    """Load the model after writing a manifest of its files as they are now."""
    write_manifest(folder / "wide_cnn", {})
    return load_pretrained("wide_cnn", folder)


@pytest.mark.parametrize("family", MODELS)
def test_weights_are_restored_exactly(family, tmp_path):
    _, params, stats = split(create_model(family, width=8, depth=3, rngs=nnx.Rngs(2)))
    write_weights(tmp_path / "weights.npz", {"params": params, "stats": stats})
    other = split(create_model(family, width=8, depth=3, rngs=nnx.Rngs(3)))
    back = read_weights(tmp_path / "weights.npz", {"params": other[1], "stats": other[2]})
    jax.tree.map(np.testing.assert_array_equal, back, {"params": params, "stats": stats})


def test_a_published_model_predicts_as_the_saved_one(model, published, random_images):
    images = random_images(3, 28, 28, 1)
    model.eval()
    np.testing.assert_array_equal(load_pretrained("wide_cnn", str(published))(images), model(images))


def test_an_unknown_model_lists_the_known_ones(published):
    with pytest.raises(InputError, match="no pretrained model 'vgg'; it has wide_cnn"):
        load_pretrained("vgg", published)


def test_damaged_weights_are_reported_with_their_file(published):
    path = published / "wide_cnn" / "weights.npz"
    whole = path.read_bytes()
    flipped = [whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :] for index in (0, 30, len(whole) // 2)]
    np.save(plain := published / "plain.npy", np.zeros(3))
    for content in (b"", b"no archive", whole[: len(whole) // 2], plain.read_bytes(), *flipped):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"weights.npz.*: (is not a zip archive|holds the weights of)"):
            load_with_new_manifest(published)


def test_files_that_do_not_match_the_manifest_are_rejected(published):
    folder = published / "wide_cnn"
    for name in ("config.json", "weights.npz"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b" ")  # which reads the same
        with pytest.raises(InputError, match=f"{name}: was changed after it was written"):
            load_pretrained("wide_cnn", published)
        (folder / name).write_bytes(whole)
    (folder / "weights.npz").unlink()
    with pytest.raises(InputError, match=r"weights\.npz: is missing"):
        load_pretrained("wide_cnn", published)
    (folder / "seal.json").unlink()
    with pytest.raises(InputError, match=r"wide_cnn: has no seal\.json"):
        load_pretrained("wide_cnn", published)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, '{"recipe": {"family": "wide_cnn", "sizes": []}}'])
def test_a_damaged_config_is_reported_with_its_file(published, content):
    (published / "wide_cnn" / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json: (is damaged|describes no model)"):
        load_with_new_manifest(published)


@pytest.mark.parametrize("sizes", [{"depth": 10**9}, {"width": 10**12}, {"width": 0}, {"width": "16"}, {"height": 3}])
def test_impossible_sizes_are_reported_with_their_file(published, sizes):
    path = published / "wide_cnn" / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["sizes"] |= sizes
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config.json: describes no model"):
        load_with_new_manifest(published)


def test_weights_of_another_model_are_rejected(published):
    config = json.loads((published / "wide_cnn" / "config.json").read_text())
    config["recipe"]["sizes"]["width"] = 8
    (published / "wide_cnn" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"holds the weights of another model: params/"):
        load_with_new_manifest(published)


def test_weights_that_are_not_finite_are_rejected(published, model):
    _, params, stats = split(model)
    params["head"]["bias"] = np.append(np.zeros(9, np.float32), np.float32(-np.inf))
    write_weights(published / "wide_cnn" / "weights.npz", {"params": params, "stats": stats})
    with pytest.raises(InputError, match=r"weights.npz: is damaged: params/head/bias is not finite"):
        load_with_new_manifest(published)


@pytest.mark.parametrize("family", sorted(path.parent.name for path in PRETRAINED.glob("*/config.json")))
def test_the_shipped_models_classify_an_image(family):
    logits = load_pretrained(family)(np.zeros((2, 28, 28, 1), np.float32))
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()
