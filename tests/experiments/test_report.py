import base64
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
from experiments.reporting.metrics import Predictions, show
from experiments.reporting.page import percent, png, seconds
from experiments.reporting.report import FULL, SPLIT, UNSURE, pseudo_labels
from experiments.reporting.sections import CARDS, Judged, by_number, confusion, missed
from experiments.reporting.svg import INK, SERIES, Line, draw_curves
from experiments.train_scratch import ScratchOptions
from jaxnets.config import Selection
from jaxnets.data import load
from jaxnets.inference.ensemble import combine
from scratch.recipes import RECIPES
from tests.experiments.pages import Page

HOSTILE = "<img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def unlabelled(whole, tmp_path_factory):
    """The folder of that job once more, on data of a hostile name and without test labels."""
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
    """A finished job: its page as text, that page parsed, and its report.json."""
    out = request.getfixturevalue(request.param)
    text = (out / "report.html").read_text(encoding="utf-8")
    return text, Page(text), json.loads((out / "report.json").read_text())


def test_a_table_for_one_view_has_each_number_once(whole, capsys):
    show(json.loads((whole / "report.json").read_text()) | {"views": 1})
    head = next(line for line in capsys.readouterr().out.splitlines() if "network" in line)
    assert re.findall(r"\w+", head) == ["network", "parameters", "valid", "test", "training"]


def test_a_page_is_well_formed_and_has_no_name_twice(job):
    _, page, _ = job
    assert page.faults == []
    assert page.all("html") == [{"lang": "en"}]
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names)) > 5
    assert {attributes["href"] for attributes in page.all("a")} <= {f"#{name}" for name in names}


def test_a_page_fetches_and_runs_nothing(job):
    text, page, _ = job
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
    for _, attributes in page.elements:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("xlink:href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "poster", "background")]
    assert not re.search(r"url\((?!#)|@import|https?:(?!//www\.w3\.org/)", text)
    assert "default-src 'none'" in page.all("meta")[3]["content"]


def test_who_cannot_see_is_told(job):
    _, page, _ = job
    pictures = [*page.all("img"), *page.all("svg")]
    assert len(pictures) > 20
    assert all(picture.get("alt") or picture.get("aria-label") for picture in pictures)
    assert all("scope" in heading for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) - text_tables(page)


def text_tables(page):
    """The small tables in the cards of missed images, whose card is their caption."""
    return sum("hidden" in head for head in page.all("thead"))


def test_a_page_suits_light_dark_phones_and_paper(job):
    text, page, _ = job
    for medium in ("screen and (prefers-color-scheme: dark)", "(max-width: 34rem)", "print"):  # paper is never dark
        assert f"@media {medium} {{" in text
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in text.split("</style>")[0].split("dark)")[:2])
    used = set(re.findall(r"var\((--[\w-]+)\)", text)) - {"--c", "--s"}
    assert used <= light
    assert {"--paper", "--ink", "--series-0"} <= dark
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert not any(colour in text for colour in (INK, *SERIES))


def test_the_page_says_who_saw_test_images(whole):
    report, page = json.loads((whole / "report.json").read_text()), Page((whole / "report.html").read_text())
    students = [member["family"] for member in report["members"] if member["student"]]
    assert len(students) == page.text.count("saw test images, unlabelled") > 0
    assert f"{report['seed']}-student saw test images, unlabelled" in page.text


def test_the_numbers_on_the_page_are_those_of_the_report(whole, unlabelled):
    for out, kind in ((whole, "test"), (unlabelled, "valid")):
        report, page = json.loads((out / "report.json").read_text()), Page((out / "report.html").read_text())
        for member in report["members"]:
            wanted = [percent(member[f"{key}_accuracy"]) for key in ("valid", "tta_valid")]
            wanted += [percent(member[f"{key}_accuracy"]) for key in ("test", "tta_test")] if kind == "test" else []
            assert f"{member['parameters']:,} {' '.join(wanted)} {seconds(member['train_seconds'])}" in page.text
        accuracy = report["ensemble"]["test_accuracy" if kind == "test" else "tta_valid_accuracy"]
        images = report[f"{kind}_rows"]
        assert f"images right {percent(accuracy)} {round((1 - accuracy) * images)} of {images} wrong" in page.text
        cards = [image for image in page.all("img") if ", labelled " in image["alt"]]
        assert len(cards) == round((1 - accuracy) * images)
        assert f"{report['pseudo_labels']['selected']} of {report['pseudo_labels']['of']} images passed" in page.text
        assert report["command"] in page.text


def test_every_stage_was_timed(whole):
    members = [path.name for path in (whole / "members").iterdir()]
    stages = {"pseudo_labels", "ensemble", "evaluate", *(f"predict {member}" for member in members)}
    assert set(read_seconds(whole)) == stages


def test_a_name_from_outside_stays_text(unlabelled):
    page = Page((unlabelled / "report.html").read_text())
    assert f"smoke on {HOSTILE}" in page.text
    assert "test images have no labels here" in page.text


def test_numpys_page_says_what_its_report_says(scratch):
    report, page = json.loads((scratch / "report.json").read_text()), Page((scratch / "report.html").read_text())
    mean, sd = (percent(report[f"test_accuracy_{name}"]) for name in ("mean", "sd"))
    assert f"{mean} ± {sd} over 2 seeds" in page.text
    assert len([image for image in page.all("img") if ", warp " in image["alt"]]) == 3 * 8
    assert len([image for image in page.all("img") if image["alt"].startswith("Weights")]) == 16


@pytest.fixture
def judged():
    """Two networks and their mean on 100 images of 3 classes: all is answered 1, the later the surer."""
    sureness = np.linspace(0.4, 0.9, 100)
    members = np.log(np.stack([[(1 - sureness) / 2, sureness, (1 - sureness) / 2]] * 2)).transpose(0, 2, 1)
    labels = np.arange(100) % 3
    images = np.zeros((100, 4, 4, 1), np.uint8)
    return Judged("test", "mnist", np.arange(900, 1000), images, labels, ["a", "b"], members, combine(members))


def test_missed_images_are_those_most_surely_wrong_and_the_doubted_are_marked(judged):
    cards = missed(judged)
    wrong = [row for row in range(999, 899, -1) if (row - 900) % 3 != 1]
    assert [card["row"] for card in cards] == wrong[:CARDS]
    assert [card["row"] for card in cards if card["disputed"]] == [947]
    assert cards[0]["members"] == [{"name": name, "answer": 1, "sureness": pytest.approx(0.9)} for name in "ab"]


def test_confusions_are_counted_and_only_mistakes_are_shaded(judged):
    rows = dict(confusion(judged)["rows"])
    assert [[cell["count"] for cell in rows[name]] for name in "012"] == [[0, 34, 0], [0, 33, 0], [0, 33, 0]]
    assert (rows["0"][1]["shade"], rows["1"][1]["shade"]) == ("1.00", "0.00")


def test_one_network_needs_no_chart_of_many(judged):
    assert by_number(judged)["all"] == 67
    assert by_number(judged._replace(names=["a"], members=judged.members[:1])) is None


def test_why_pseudo_labels_were_refused(tmp_path, monkeypatch):
    """Four images: chosen, its class full, one teacher against it, unsure. A student's answer counts for nothing."""
    monkeypatch.setattr(report, "SHOWN", 2)
    one, other, unsure = np.log([0.98, 0.02]), np.log([0.45, 0.55]), np.log([0.6, 0.4])
    teachers = np.array([[[one, one, one, unsure]], [[one, one, other, unsure]]])
    members = np.concatenate([teachers, -teachers[:1]])
    answers = Predictions([], [True, True, False], members, np.zeros(0), members, None, 0)
    (tmp_path / "pseudo_labels").mkdir()
    np.savez(tmp_path / "pseudo_labels" / "selected.npz", rows=[0])
    images = np.zeros((4, 4, 4, 1), np.uint8)
    told = pseudo_labels(tmp_path, {"temperature": 1.0}, answers, images, Selection(threshold=0.7, per_class=1))
    assert told["refused"] == {UNSURE: 1, SPLIT: 1, FULL: 1}
    refused = [(card["row"], card["why"], card["agree"]) for card in told["kinds"]["Refused"]]
    assert refused == [(3, UNSURE, 2), (2, SPLIT, 1)]
    assert [card["row"] for card in told["kinds"]["Chosen"]] == [0]


def test_a_chart_has_the_same_bytes_always_and_no_name_of_its_own():
    lines = [Line("<a>", 0, False, [1.0, 2.0], [0.5, 0.1]), Line("b", 7, True, [1.0], [0.2])]
    chart = draw_curves(lines, "loss", 'falls "fast" & <far>')
    assert chart == draw_curves(lines, "loss", 'falls "fast" & <far>')
    page = Page(chart)
    assert page.faults == []
    assert page.all("svg")[0]["aria-label"] == 'falls "fast" & <far>'


def test_colours_of_an_image_are_kept_and_ink_is_black():
    rng = np.random.default_rng(0)
    grey, coloured = rng.integers(0, 256, (5, 4, 1), np.uint8), rng.integers(0, 256, (5, 4, 3), np.uint8)
    ink = np.repeat(255 - grey, 3, axis=-1)
    for image, wanted in ((grey, ink), (grey / 255, ink), (coloured, coloured)):
        np.testing.assert_allclose(pixels(png(image)), wanted, atol=1)


def pixels(url):
    """A data: URL -> (H, W, 3) uint8."""
    image = imread(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    return (255 * image[..., :3]).round().astype(np.uint8)


@pytest.mark.parametrize(("value", "said"), [(0.04, "0.0 s"), (200, "3 min 20 s"), (7139, "1 h 59 min")])
def test_seconds_are_said_as_people_say_them(value, said):
    assert seconds(value) == said


@pytest.mark.parametrize("content", ["", "[]", '{"predict": null}', None])
def test_damaged_seconds_are_begun_anew(tmp_path, content):
    if content is not None:
        (tmp_path / "seconds.json").write_text(content)
    with clocked(tmp_path, "predict a"):
        pass
    assert list(read_seconds(tmp_path)) == ["predict a"]
