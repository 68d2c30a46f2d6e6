import os
import pickle
import zipfile

import numpy as np
import pytest

from scratch import weights
from scratch.mlp import init_params
from scratch.weights import load_params, save_params


@pytest.fixture
def params():
    return init_params(np.random.default_rng(0), (5, 4, 3))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(found, expected):
    assert len(found) == len(expected)
    for pair, expected_pair in zip(found, expected, strict=True):
        for array, expected_array in zip(pair, expected_pair, strict=True):
            assert array.dtype == expected_array.dtype
            np.testing.assert_array_equal(array, expected_array)


@pytest.mark.parametrize("name", ["best.npz", "best", "sieben ü.npz"])
def test_saved_parameters_are_loaded_from_the_same_path(tmp_path, params, name):
    save_params(tmp_path / name, params)
    assert names(tmp_path) == [name]
    assert_same(load_params(tmp_path / name), params)


@pytest.mark.parametrize("widths", [(3, 2), (2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_layers_is_saved_in_order(tmp_path, widths, dtype):
    params = init_params(np.random.default_rng(0), widths)
    params = [(w.astype(dtype), np.asfortranarray(b + w[0])) for w, b in params]
    save_params(tmp_path / "w.npz", params)
    assert_same(load_params(tmp_path / "w.npz"), params)


def saved_bytes(path, params):
    save_params(path, params)
    return path.read_bytes()


def member_changed(path, params, change):
    """Save params, then replace each member by change(name, data)."""
    save_params(path, params)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, change(name, data))


def flipped(data, index):
    return data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]


def savez(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def zeros(**shapes):
    return lambda path, params: savez(path, **{name: np.zeros(shape) for name, shape in shapes.items()})


DAMAGES = {
    "empty": lambda path, params: path.write_bytes(b""),
    "cut in two": lambda path, params: path.write_bytes(saved_bytes(path, params)[:300]),
    "without its end": lambda path, params: path.write_bytes(saved_bytes(path, params)[:-1]),
    "a number changed": lambda path, params: path.write_bytes(flipped(saved_bytes(path, params), 200)),
    "pickle": lambda path, params: path.write_bytes(pickle.dumps(params)),
    "no npy inside": lambda path, params: member_changed(path, params, lambda name, data: b"1, 2"),
    "header damaged": lambda path, params: member_changed(path, params, lambda name, data: flipped(data, 20)),
    "giant": lambda path, params: member_changed(
        path, params, lambda name, data: data.replace(b"(5, 4), }           ", b"(5, 99999999999999)}")
    ),
    "objects": lambda path, params: savez(path, w0=np.array([[print]]), b0=np.array([print])),
    "complex": lambda path, params: savez(path, w0=np.zeros((2, 2), complex), b0=np.zeros(2, complex)),
    "other names": zeros(kernel=(3, 2), bias=(2,)),
    "a layer left out": zeros(w0=(3, 2), b0=(2,), w2=(2, 2), b2=(2,)),
    "two arrays more": zeros(w0=(3, 2), b0=(2,), more=(2,), again=(2,)),
    "layers that do not fit": zeros(w0=(3, 2), b0=(2,), w1=(3, 2), b1=(2,)),
    "a bias too long": zeros(w0=(3, 2), b0=(3,)),
    "deep weights": zeros(w0=(3, 2, 2), b0=(2, 2)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_raises_one_line_with_its_path(tmp_path, params, damage):
    path = tmp_path / "mine.npz"
    damage(path, params)
    with pytest.raises(ValueError, match=r"mine\.npz") as error:
        load_params(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_pickled_array_is_not_unpickled(tmp_path):
    bomb = type("Bomb", (), {"__reduce__": lambda self: (os.mkdir, (str(tmp_path / "ran"),))})
    savez(tmp_path / "bomb.npz", w0=np.array([[bomb()]]), b0=np.zeros(1))
    with pytest.raises(ValueError, match="bomb"):
        load_params(tmp_path / "bomb.npz")
    assert names(tmp_path) == ["bomb.npz"]


def test_a_file_above_the_size_limit_is_not_unpacked(tmp_path, monkeypatch, params):
    save_params(tmp_path / "w.npz", params)
    monkeypatch.setattr(weights, "MAX_BYTES", (tmp_path / "w.npz").stat().st_size)
    assert_same(load_params(tmp_path / "w.npz"), params)
    np.savez_compressed(tmp_path / "bomb.npz", w0=np.zeros((999, 99)), b0=np.zeros(99))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(ValueError, match=r"bomb\.npz: unpacks to .* bytes, more than"):
        load_params(tmp_path / "bomb.npz")


def test_a_missing_file_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_params(tmp_path / "none.npz")
