import base64
import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import train_scratch
from experiments.cli.provenance import clocked, read_seconds
from experiments.pipeline import PipelineOptions, main
from experiments.reporting import report
from experiments.reporting.error_analysis import Evaluation, write_mistakes
from experiments.reporting.metrics import Predictions
from experiments.reporting.page import percent, png, seconds
from experiments.reporting.report import FULL, SPLIT, UNSURE, pseudo_labels
from experiments.reporting.sections import MAX_CARDS, confusion, ensemble_sizes, missed
from experiments.train_scratch import ScratchOptions
from jaxnets.config import PseudoLabelConfig
from jaxnets.data import load
from jaxnets.inference.ensemble import combine
from jaxnets.plots import CSS_VARIABLES
from scratch.recipes import RECIPES
from tests.experiments.pages import Page

HOSTILE = "<img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def unlabelled(whole, tmp_path_factory):
    """The same run on data with a hostile name and without test labels."""
    folder, digits = tmp_path_factory.mktemp("hostile"), load("digits")
    np.savez(folder / f"{HOSTILE}.npz", x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test)
    shutil.copytree(whole, folder / "out")
    (folder / "out" / "report.json").unlink()
    main(PipelineOptions(preset="smoke", data=f"{folder / HOSTILE}.npz", out=folder / "out", compilation_cache=False))
    return folder / "out"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    out, short = tmp_path_factory.mktemp("scratch"), RECIPES["deformed"]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "deformed", lambda: train_scratch.replace(short, widths=(784, 16, 10), epochs=2))
        train_scratch.main(ScratchOptions(recipe="deformed", data="digits", seeds=2, out=out))
    return out


@pytest.fixture(params=["whole", "unlabelled", "scratch"])
def job(request):
    """The page of a finished run as text and parsed, and its report.json."""
    out = request.getfixturevalue(request.param)
    text = (out / "report.html").read_text(encoding="utf-8")
    return text, Page(text), json.loads((out / "report.json").read_text())


def test_a_page_is_well_formed_with_unique_ids(job):
    _, page, _ = job
    assert page.faults == []
    assert page.all("html") == [{"lang": "en"}]
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names)) > 5
    assert {attributes["href"] for attributes in page.all("a")} <= {f"#{name}" for name in names}


def test_a_page_has_no_scripts_and_no_external_requests(job):
    text, page, _ = job
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
    for _, attributes in page.elements:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("xlink:href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "poster", "background")]
    assert not re.search(r"url\((?!#)|@import|https?:(?!//www\.w3\.org/)", text)
    assert "default-src 'none'" in page.all("meta")[3]["content"]


def test_images_and_tables_have_text_alternatives(job):
    _, page, _ = job
    images = [*page.all("img"), *page.all("svg")]
    assert len(images) > 20
    assert all(image.get("alt") or image.get("aria-label") for image in images)
    assert all("scope" in heading for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) - text_tables(page)


def text_tables(page):
    """Count the small tables in the cards of misclassified images; the card is their caption."""
    return sum("hidden" in head for head in page.all("thead"))


def test_a_page_has_styles_for_light_dark_phones_and_print(job):
    text, page, _ = job
    for medium in ("screen and (prefers-color-scheme: dark)", "(max-width: 34rem)", "print"):  # paper is never dark
        assert f"@media {medium} {{" in text
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in text.split("</style>")[0].split("dark)")[:2])
    used = set(re.findall(r"var\((--[\w-]+)\)", text)) - {"--c", "--s"}
    assert used <= light
    assert {"--paper", "--ink", "--series-0"} <= dark
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert not any(color in chart for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL) for color in CSS_VARIABLES)


def test_the_page_marks_models_trained_on_pseudo_labels(whole):
    report, page = json.loads((whole / "report.json").read_text()), Page((whole / "report.html").read_text())
    students = [member["family"] for member in report["members"] if member["student"]]
    assert len(students) == page.text.count("trained on pseudo-labels of test images") > 0
    assert f"{report['seed']}-student trained on pseudo-labels of test images" in page.text


def test_the_page_shows_the_numbers_of_the_report(whole, unlabelled):
    for out, kind in ((whole, "test"), (unlabelled, "valid")):
        report, page = json.loads((out / "report.json").read_text()), Page((out / "report.html").read_text())
        for member in report["members"]:
            wanted = [percent(member[f"{key}_accuracy"]) for key in ("valid", "tta_valid")]
            wanted += [percent(member[f"{key}_accuracy"]) for key in ("test", "tta_test")] if kind == "test" else []
            assert f"{member['parameters']:,} {' '.join(wanted)} {seconds(member['train_seconds'])}" in page.text
        accuracy = report["ensemble"]["test_accuracy" if kind == "test" else "tta_valid_accuracy"]
        images = report[f"{kind}_rows"]
        assert f"accuracy {percent(accuracy)} {round((1 - accuracy) * images)} errors on {images} images" in page.text
        cards = [image for image in page.all("img") if ", label " in image["alt"]]
        assert len(cards) == round((1 - accuracy) * images)
        assert (
            f"{report['pseudo_labels']['selected']} of {report['pseudo_labels']['of']} images were selected"
            in page.text
        )
        assert report["command"] in page.text


def test_every_stage_was_timed(whole):
    members = [path.name for path in (whole / "members").iterdir()]
    stages = {"pseudo_labels", "ensemble", "evaluate", *(f"predict {member}" for member in members)}
    assert set(read_seconds(whole)) == stages


def test_a_hostile_name_is_escaped(unlabelled):
    page = Page((unlabelled / "report.html").read_text())
    assert f"smoke on {HOSTILE}" in page.text
    assert "The test images have no labels" in page.text


def test_the_numpy_page_shows_the_numbers_of_its_report(scratch):
    report, page = json.loads((scratch / "report.json").read_text()), Page((scratch / "report.html").read_text())
    mean, sd = (percent(report[f"test_accuracy_{name}"]) for name in ("mean", "sd"))
    assert f"{mean} ± {sd} over 2 seeds" in page.text
    assert len([image for image in page.all("img") if ", augmentation " in image["alt"]]) == 3 * 8
    assert len([image for image in page.all("img") if image["alt"].startswith("Weights")]) == 16


@pytest.fixture
def evaluation():
    """Two models on 100 images of 3 classes. The prediction is always 1, with rising confidence."""
    confidence = np.linspace(0.4, 0.9, 100)
    members = np.log(np.stack([[(1 - confidence) / 2, confidence, (1 - confidence) / 2]] * 2)).transpose(0, 2, 1)
    labels = np.arange(100) % 3
    images = np.zeros((100, 4, 4, 1), np.uint8)
    return Evaluation("test", "mnist", np.arange(900, 1000), images, labels, ["a", "b"], members, combine(members))


def test_misclassified_images_are_ordered_by_confidence_and_label_errors_are_marked(evaluation):
    cards = missed(evaluation)
    wrong = [row for row in range(999, 899, -1) if (row - 900) % 3 != 1]
    assert [card["row"] for card in cards] == wrong[:MAX_CARDS]
    assert [card["row"] for card in cards if card["label_error"]] == [947]
    assert cards[0]["members"] == [{"name": name, "prediction": 1, "confidence": pytest.approx(0.9)} for name in "ab"]


def test_only_errors_are_shaded_in_the_confusion_matrix(evaluation):
    rows = dict(confusion(evaluation)["rows"])
    assert [[cell["count"] for cell in rows[name]] for name in "012"] == [[0, 34, 0], [0, 33, 0], [0, 33, 0]]
    assert (rows["0"][1]["shade"], rows["1"][1]["shade"]) == ("1.00", "0.00")


def test_a_single_model_has_no_chart_of_ensemble_sizes(evaluation):
    assert ensemble_sizes(evaluation)["all"] == 67
    assert ensemble_sizes(evaluation._replace(names=["a"], members=evaluation.members[:1])) is None


def test_a_model_named_like_a_column_of_mistakes_csv_is_renamed(evaluation, tmp_path):
    write_mistakes(tmp_path / "mistakes.csv", evaluation._replace(names=["resnet-0", "label"]))
    with (tmp_path / "mistakes.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["row", "label", "prediction", "probability", "resnet-0", "./label"]
    assert [lines[0], len(lines)] == [["900", "0", "1", "0.4", "1", "1"], 67]


def test_why_pseudo_labels_were_rejected(tmp_path, monkeypatch):
    """Four images: selected, class full, one teacher disagrees, low confidence. Predictions of students are ignored."""
    monkeypatch.setattr(report, "SHOWN", 2)
    one, other, unsure = np.log([0.98, 0.02]), np.log([0.45, 0.55]), np.log([0.6, 0.4])
    teachers = np.array([[[one, one, one, unsure]], [[one, one, other, unsure]]])
    members = np.concatenate([teachers, -teachers[:1]])
    predictions = Predictions([], [True, True, False], members, np.zeros(0), members, None, 0)
    (tmp_path / "pseudo_labels").mkdir()
    np.savez(tmp_path / "pseudo_labels" / "selected.npz", rows=[0])
    images = np.zeros((4, 4, 4, 1), np.uint8)
    section = pseudo_labels(
        tmp_path, {"temperature": 1.0}, predictions, images, PseudoLabelConfig(threshold=0.7, per_class=1)
    )
    assert section["rejected"] == {UNSURE: 1, SPLIT: 1, FULL: 1}
    rejected = [(card["row"], card["reason"], card["votes"]) for card in section["kinds"]["Rejected"]]
    assert rejected == [(3, UNSURE, 2), (2, SPLIT, 1)]
    assert [card["row"] for card in section["kinds"]["Selected"]] == [0]


def test_grey_images_are_black_on_white_and_colours_are_kept():
    rng = np.random.default_rng(0)
    grey, coloured = rng.integers(0, 256, (5, 4, 1), np.uint8), rng.integers(0, 256, (5, 4, 3), np.uint8)
    ink = np.repeat(255 - grey, 3, axis=-1)
    for image, wanted in ((grey, ink), (grey / 255, ink), (coloured, coloured)):
        np.testing.assert_allclose(pixels(png(image)), wanted, atol=1)


def pixels(url):
    """A data: URL -> (H, W, 3) uint8."""
    image = imread(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    return (255 * image[..., :3]).round().astype(np.uint8)


@pytest.mark.parametrize(("value", "text"), [(0.04, "0.0 s"), (200, "3 min 20 s"), (7139, "1 h 59 min")])
def test_durations_are_formatted(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize("content", ["", "[]", '{"predict": null}', None])
def test_a_damaged_file_of_times_is_replaced(tmp_path, content):
    if content is not None:
        (tmp_path / "seconds.json").write_text(content)
    with clocked(tmp_path, "predict a"):
        pass
    assert list(read_seconds(tmp_path)) == ["predict a"]
