import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets.models import MODELS, create_model, load_pretrained
from jaxnets.models.functional import split
from jaxnets.store.manifest import seal
from jaxnets.store.weights import PRETRAINED, read_weights, write_weights

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = {"width": 4, "depth": 1}


@pytest.fixture
def model():
    return create_model("wide_cnn", **SIZES, rngs=nnx.Rngs(1))


@pytest.fixture
def published(model, tmp_path):
    """The folder of one published network."""
    config = {"recipe": {"family": "wide_cnn", "sizes": SIZES}, "image_shape": [28, 28, 1], "num_classes": 10}
    (tmp_path / "wide_cnn").mkdir()
    (tmp_path / "wide_cnn" / "config.json").write_text(json.dumps(config))
    _, params, stats = split(model)
    write_weights(tmp_path / "wide_cnn" / "weights.npz", {"params": params, "stats": stats})
    seal(tmp_path / "wide_cnn", {})
    return tmp_path


def load_sealed(folder):
    """Load the network with a seal of its files as they are now."""
    seal(folder / "wide_cnn", {})
    return load_pretrained("wide_cnn", folder)


@pytest.mark.parametrize("family", MODELS)
def test_weights_come_back_as_they_were(family, tmp_path):
    _, params, stats = split(create_model(family, width=8, depth=3, rngs=nnx.Rngs(2)))
    write_weights(tmp_path / "weights.npz", {"params": params, "stats": stats})
    other = split(create_model(family, width=8, depth=3, rngs=nnx.Rngs(3)))
    back = read_weights(tmp_path / "weights.npz", {"params": other[1], "stats": other[2]})
    jax.tree.map(np.testing.assert_array_equal, back, {"params": params, "stats": stats})


def test_a_published_network_answers_as_the_one_that_was_saved(model, published, pictures):
    images = pictures(3, 28, 28, 1)
    model.eval()
    np.testing.assert_array_equal(load_pretrained("wide_cnn", str(published))(images), model(images))


def test_a_network_that_is_not_there_is_named_with_those_that_are(published):
    with pytest.raises(ValueError, match=r"no pretrained network 'vgg' in .*: wide_cnn$"):
        load_pretrained("vgg", published)


def test_damaged_weights_are_told_by_their_file(published):
    path = published / "wide_cnn" / "weights.npz"
    whole = path.read_bytes()
    flipped = [whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in (0, 30, len(whole) // 2)]
    np.save(plain := published / "plain.npy", np.zeros(3))
    for content in (b"", b"no archive", whole[: len(whole) // 2], plain.read_bytes(), *flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights.npz (is damaged|holds the weights of another)"):
            load_sealed(published)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load_pretrained("wide_cnn", published)


def test_files_that_are_not_as_they_were_sealed_are_refused(published):
    folder = published / "wide_cnn"
    for name in ("config.json", "weights.npz"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b" ")  # which reads the same
        with pytest.raises(ValueError, match=f"{name} is damaged: it is not as it was sealed"):
            load_pretrained("wide_cnn", published)
        (folder / name).write_bytes(whole)
    for content in ("", "[]", '{"files": []}', '{"files": {}}', "[" * 100_000):
        (folder / "seal.json").write_text(content)
        with pytest.raises(ValueError, match=r"seal\.json is damaged"):
            load_pretrained("wide_cnn", published)
    (folder / "seal.json").unlink()
    with pytest.raises(ValueError, match=r"wide_cnn has no seal\.json"):
        load_pretrained("wide_cnn", published)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, '{"recipe": {"family": "wide_cnn", "sizes": []}}'])
def test_a_damaged_config_is_told_by_its_file(published, content):
    (published / "wide_cnn" / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        load_sealed(published)


@pytest.mark.parametrize("sizes", [{"depth": 10**9}, {"width": 10**12}, {"width": 0}, {"width": "16"}, {"height": 3}])
def test_sizes_of_no_network_are_told_by_their_file(published, sizes):
    path = published / "wide_cnn" / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["sizes"] |= sizes
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        load_sealed(published)


def test_weights_of_another_network_are_refused(published):
    config = json.loads((published / "wide_cnn" / "config.json").read_text())
    config["recipe"]["sizes"]["width"] = 8
    (published / "wide_cnn" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"holds the weights of another network: params/"):
        load_sealed(published)


def test_weights_that_are_not_finite_are_refused(published, model):
    _, params, stats = split(model)
    params["head"]["bias"] = np.append(np.zeros(9, np.float32), np.float32(-np.inf))
    write_weights(published / "wide_cnn" / "weights.npz", {"params": params, "stats": stats})
    with pytest.raises(ValueError, match=r"weights.npz is damaged: params/head/bias is not finite"):
        load_sealed(published)


@pytest.mark.parametrize("family", sorted(path.parent.name for path in PRETRAINED.glob("*/config.json")))
def test_the_shipped_networks_read_an_image(family):
    logits = load_pretrained(family)(np.zeros((2, 28, 28, 1), np.float32))
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()
