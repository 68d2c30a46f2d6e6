import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import experiments
from experiments.studies import guide_figures
from experiments.studies.figures import FIGURES, FigureOptions, main
from jaxnets import data
from jaxnets.errors import InputError

SAVED = Path(experiments.__file__).parent / "studies" / "figures"
MEASURED = sorted(path.stem for path in SAVED.glob("*.json"))


def test_every_saved_figure_is_known():
    assert {path.stem for path in SAVED.glob("*.png")} <= set(FIGURES)
    assert set(MEASURED) <= set(FIGURES)


@pytest.mark.parametrize("name", MEASURED)
def test_a_figure_is_drawn_from_its_saved_numbers(tmp_path, monkeypatch, name):
    not_measured = FIGURES[name]._replace(measure=lambda: pytest.fail("measured although numbers were saved"))
    monkeypatch.setitem(FIGURES, name, not_measured)
    shutil.copy(SAVED / f"{name}.json", tmp_path)
    main(FigureOptions(only=(name,), to=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json", f"{name}.png"}
    assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.05


def test_missing_numbers_are_measured_once_and_again_on_demand(tmp_path, monkeypatch):
    calls = []

    def measure():
        calls.append("measured")
        return {"counts": [[2, 1], [0, 3]]}

    monkeypatch.setitem(FIGURES, "confusion", FIGURES["confusion"]._replace(measure=measure))
    for demand in (False, False, True):
        main(FigureOptions(only=("confusion",), to=tmp_path, measure=demand))
    assert len(calls) == 2
    numbers = json.loads((tmp_path / "confusion.json").read_text())
    assert numbers["counts"] == [[2, 1], [0, 3]]
    assert numbers["command"] == "python -m experiments.studies.figures --measure --only confusion"
    assert {"python", "numpy"} <= set(numbers["versions"])


def test_an_unknown_figure_is_rejected(tmp_path):
    with pytest.raises(InputError, match="unknown figure tests"):
        main(FigureOptions(only=("tests",), to=tmp_path / "figures"))
    assert not (tmp_path / "figures").exists()


def test_an_unwritable_directory_is_rejected(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written"):
        main(FigureOptions(only=("confusion",), to=tmp_path / "file"))


@pytest.mark.parametrize("content", ["{}", '{"weights": 3, "test_accuracy": 0.9}', '{"counts": [[1], [2, 3]]}'])
@pytest.mark.parametrize("name", FIGURES)
def test_other_numbers_are_rejected(tmp_path, name, content):
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(InputError, match=rf"{name}\.json: does not hold the numbers of this figure"):
        main(FigureOptions(only=(name,), to=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.json"]


def test_pixels_are_packed_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    np.testing.assert_array_equal(guide_figures.unpack(guide_figures.pack(pixels / 255)), pixels)


@pytest.fixture
def few_digits(monkeypatch):
    """Replace MNIST by sixty images of its shape: class k is a bright row."""
    labels = np.arange(60) % 10
    images = np.zeros((60, 28, 28, 1), np.uint8)
    images[np.arange(60), 2 * labels] = 255
    few = data.Digits("mnist", images, labels, images, labels, 10)
    monkeypatch.setattr(data, "load", lambda name: few)


def test_measured_numbers_can_be_saved_and_drawn(few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(guide_figures, "SECONDS", 0.3)
    monkeypatch.setattr(guide_figures, "LEARNING_RATES", {8: (0.1, 0.5), 64: (0.5,)})
    numbers = {}
    for name in ("linear", "training", "confusion", "warps"):
        numbers[name] = json.loads(json.dumps(FIGURES[name].measure()))
        FIGURES[name].draw(tmp_path / f"{name}.png", numbers[name])
        assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.05
    assert numbers["linear"]["test_accuracy"] == 1
    assert np.trace(numbers["confusion"]["counts"]) == 5 * 60
    curve = numbers["training"]["batches"]["8"]
    assert curve["accuracy"][-1] == 1
    assert curve["seconds"] == sorted(curve["seconds"])
    assert numbers["warps"]["image"] != numbers["warps"]["warps"]["all"][0]
