import itertools
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave
from PIL import Image

from experiments.cli.options import run
from experiments.tools import classify_photo
from experiments.tools.classify_photo import ClassifyOptions, main, predict_scratch, read_ink
from jaxnets.errors import InputError
from jaxnets.normalise import normalise
from jaxnets.store.weights import PRETRAINED


def photograph(image, rng):
    """image (28, 28) uint8, ink 255 -> grey photo (420, 560) uint8 with a shadow and noise."""
    ink = np.pad(np.kron(image / 255, np.ones((9, 9))), ((40, 128), (190, 118)))
    paper = np.linspace(140, 220, 560) + rng.normal(0, 4, ink.shape)
    return np.clip(paper * (1 - 0.75 * ink), 0, 255).astype(np.uint8)


def test_a_photo_is_preprocessed_to_its_original(centred, tmp_path):
    rng = np.random.default_rng(0)
    for image in centred[0][::3]:
        Image.fromarray(photograph(image, rng)).save(tmp_path / "photo.jpg", quality=85)
        seen = normalise(read_ink(tmp_path / "photo.jpg")).astype(int)
        shifts = itertools.product((-1, 0, 1), repeat=2)  # a little more ink, and the centre of mass rounds elsewhere
        assert min(np.abs(np.roll(seen, shift, (0, 1)) - image).mean() for shift in shifts) < 8


def test_light_ink_and_transparent_paper_are_read(centred, tmp_path):
    big = np.kron(centred[0][7], np.ones((10, 10), np.uint8))
    imsave(tmp_path / "light.png", big, cmap="gray", vmin=0, vmax=255)
    Image.merge("RGBA", [Image.new("L", (280, 280))] * 3 + [Image.fromarray(big)]).save(tmp_path / "drawn.png")
    light, drawn = (normalise(read_ink(tmp_path / name)) for name in ("light.png", "drawn.png"))
    np.testing.assert_allclose(light.astype(int), drawn, atol=2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "I;16"])
def test_all_png_modes_are_read_alike(centred, tmp_path, mode):
    grey = np.where(np.kron(centred[0][7], np.ones((10, 10))) > 100, 0, 255).astype(np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 200 + 500 if mode == "I;16" else grey)
    (image if image.mode == mode else image.convert(mode)).save(tmp_path / "mine.png")
    np.testing.assert_array_equal(read_ink(tmp_path / "mine.png") > 0, grey == 0)


def test_the_size_is_checked_before_decoding(tmp_path, monkeypatch):
    Image.new("L", (200, 300), 200).save(tmp_path / "mine.png")
    monkeypatch.setattr(classify_photo, "PIXELS", 200 * 300 - 1)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(InputError, match=r"\(200 x 300 pixels\)\. Fix: .* at most 59,999 pixels"):
        read_ink(tmp_path / "mine.png")


def test_predictions_are_printed_and_plotted(centred, tmp_path, capsys):
    photo = photograph(centred[0][21], np.random.default_rng(1))
    Image.fromarray(photo).rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=rotated_exif())
    out = tmp_path / "answer.png"
    main(ClassifyOptions(image=tmp_path / "photo.jpg", runs=(PRETRAINED / "wide_cnn",), out=out))
    assert re.search(rf"wide_cnn │ +{centred[1][21]} │", capsys.readouterr().out)
    assert imread(out).ndim == 3


def test_models_of_the_same_name_are_distinguished(centred, tmp_path, capsys):
    runs = [Path(shutil.copytree(PRETRAINED / "wide_cnn", tmp_path / job / "wide_cnn")) for job in ("one", "other")]
    Image.fromarray(photograph(centred[0][21], np.random.default_rng(1))).save(tmp_path / "photo.png")
    main(ClassifyOptions(image=tmp_path / "photo.png", runs=tuple(runs), out=tmp_path / "answer.png"))
    table = capsys.readouterr().out
    assert "one/wide_cnn" in table
    assert "other/wide_cnn" in table


def test_names_are_printed_unchanged(centred, tmp_path, monkeypatch, capsys):
    model, image, out = "a$^$b[bold]\udcff", "a[/b].png", "\n:smile:$^$\udcffé.png"
    monkeypatch.chdir(tmp_path)
    Path("a[").mkdir()
    shutil.copytree(PRETRAINED / "wide_cnn", model)
    Image.fromarray(photograph(centred[0][21], np.random.default_rng(1))).save(image)
    monkeypatch.setattr(sys, "argv", ["classify_photo", "--image", image, "--runs", model, "--out", out])
    sys.stdout.reconfigure(encoding="ascii")
    run(main, ClassifyOptions)
    shown = capsys.readouterr().out
    for text in (r"a$^$b[bold]\udcff", image, r"\n:smile:$^$\udcff\xe9.png"):
        assert text in shown


def rotated_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees clockwise
    return exif


@pytest.mark.parametrize(("content", "problem"), [(b"no image", "cannot be read"), (None, "there is no ink")])
def test_an_image_without_a_digit_is_rejected_in_one_line(tmp_path, monkeypatch, capsys, content, problem):
    Image.new("L", (64, 64), 200).save(tmp_path / "mine.png")
    if content is not None:
        (tmp_path / "mine.png").write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["classify_photo", "--image", str(tmp_path / "mine.png")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(main, ClassifyOptions)
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert problem in line
    assert not (tmp_path / "checkpoints" / "answer.png").exists()


@pytest.mark.parametrize("name", ["mine.png", "link/mine.png"])
def test_the_input_image_is_not_overwritten(centred, tmp_path, name):
    (tmp_path / "link").symlink_to(tmp_path)
    Image.fromarray(photograph(centred[0][0], np.random.default_rng(0))).save(tmp_path / "mine.png")
    before = (tmp_path / "mine.png").read_bytes()
    with pytest.raises(InputError, match="is the input image"):
        main(ClassifyOptions(image=tmp_path / "mine.png", out=tmp_path / name))
    assert (tmp_path / "mine.png").read_bytes() == before


def test_an_image_with_damaged_exif_is_rejected(tmp_path):
    thumbnail_offset = rotated_exif()
    thumbnail_offset[0x0201] = 1
    exif = thumbnail_offset.tobytes().replace(b"\x02\x01\x00\x04", b"\x02\x01\x00\x02")  # a text instead of an integer
    Image.new("L", (64, 64), 200).save(tmp_path / "mine.jpg", exif=exif)
    with pytest.raises(InputError, match=r"mine\.jpg: cannot be read as an image"):
        read_ink(tmp_path / "mine.jpg")


def test_models_need_the_same_number_of_classes(centred, tmp_path, monkeypatch):
    Image.fromarray(photograph(centred[0][0], np.random.default_rng(0))).save(tmp_path / "mine.png")
    monkeypatch.setattr(classify_photo, "predict", lambda folders, image: [np.full(10, 0.1) for _ in folders])
    monkeypatch.setattr(classify_photo, "predict_scratch", lambda folder, image: np.full(3, 1 / 3))
    with pytest.raises(InputError, match="three: has 3 classes, the other models have 10"):
        main(ClassifyOptions(image=tmp_path / "mine.png", scratch=Path("three"), out=tmp_path / "answer.png"))
    assert not (tmp_path / "answer.png").exists()


def test_the_output_must_be_a_png(tmp_path):
    with pytest.raises(InputError, match=r"a\.xyz: is not a \.png"):
        main(ClassifyOptions(image=tmp_path / "none", out=tmp_path / "a.xyz"))


def test_the_published_numpy_model_predicts_too(centred):
    probabilities = predict_scratch(PRETRAINED / "scratch", centred[0][21])
    assert (probabilities.argmax(), probabilities.shape) == (centred[1][21], (10,))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)
