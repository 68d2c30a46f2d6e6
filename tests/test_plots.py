import re

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.reporting.scratch_report import plot_predictions, plot_weights
from jaxnets.inference.analysis import ReliabilityBin
from jaxnets.plots import (
    CSS_VARIABLES,
    Curve,
    inline_svg,
    panels,
    plot_confusion,
    plot_curves,
    plot_disagreement,
    plot_errors_by_size,
    plot_image,
    plot_missed,
    plot_probabilities,
    plot_reliability,
    save_png,
)
from tests.experiments.pages import Page

PLOTS = {
    "curves": lambda axes: plot_curves(
        axes, [Curve("a", 0, False, [1, 2], [0.5, 0.1]), Curve("b", 7, True, [1], [1])], "loss"
    ),
    "reliability": lambda axes: plot_reliability(
        axes, [ReliabilityBin(0.95, 0.9, 10), ReliabilityBin(1, 1, 1)], "test"
    ),
    "errors by size": lambda axes: plot_errors_by_size(axes, [[3, 5], [2]], 100),
    "confusion": lambda axes: plot_confusion(axes, np.array([[5, 1], [0, 6]])),
    "no errors": lambda axes: plot_confusion(axes, np.diag([5, 6])),
    "disagreement": lambda axes: plot_disagreement(axes, np.array([[1, 4], [4, 2]]), ["a$^$b", "c"]),
    "probabilities": lambda axes: plot_probabilities(axes, np.array([[0.9, 0.06, 0.04]]), ["a"]),
}


@pytest.mark.parametrize("name", PLOTS)
def test_each_plot_is_saved_as_png_and_as_svg(tmp_path, name):
    [axes] = panels()
    PLOTS[name](axes)
    save_png(axes.figure, tmp_path / "plot.png")
    assert imread(tmp_path / "plot.png")[..., :3].std() > 0.02
    svg = inline_svg(axes.figure, 'falls "fast" & <far>')
    page = Page(svg)
    assert page.faults == []
    assert page.all("svg")[0]["aria-label"] == 'falls "fast" & <far>'
    assert "var(--ink)" in svg
    assert not any(color in svg for color in CSS_VARIABLES)
    [axes] = panels()
    PLOTS[name](axes)
    assert inline_svg(axes.figure, 'falls "fast" & <far>') == svg


def test_two_plots_on_a_page_share_no_identifiers():
    texts = []
    for description in ("first", "second"):
        [axes] = panels()
        PLOTS["curves"](axes)
        texts.append(inline_svg(axes.figure, description))
    first, second = (set(re.findall(r'id="([^"]+)"', text)) for text in texts)
    assert len(first) == len(second) > 0
    assert not first & second
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', texts[0])) <= first


@pytest.mark.parametrize("num_errors", [200, 3, 0])
def test_any_number_of_misclassified_images_fits(tmp_path, num_errors):
    rng = np.random.default_rng(0)
    members = np.log(rng.dirichlet(np.ones(10), (20, 200)))
    labels = members[0].argmax(-1)
    labels[:num_errors] = (labels[:num_errors] + 1) % 10
    images = rng.integers(0, 256, (200, 8, 8, 1), np.uint8)
    figure = plot_missed(images, labels, members, members[0], rows=np.arange(200), label_errors=set(range(0, 200, 2)))
    save_png(figure, tmp_path / "missed.png")
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == min(num_errors, 80)
    for axes in shown:
        row = int(axes.get_title().partition(":")[0])
        assert axes.spines["top"].get_visible() == (row % 2 == 0)


def test_grids_of_images_may_be_incomplete():
    images, labels = np.random.default_rng(0).random((5, 9, 6)), np.arange(5)
    figure = plot_predictions(images, labels, np.zeros(5, int))
    assert [axes.get_xlabel() for axes in figure.axes[:3]] == ["0", "0, label 1", "0, label 2"]
    figure = plot_weights(images - 0.5)
    assert sum(len(axes.images) for axes in figure.axes) == 5


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (6, 9, 3)])
def test_grey_and_colour_images_are_plotted(shape):
    [axes] = panels()
    plot_image(axes, np.zeros(shape, np.uint8))
    assert axes.images[0].get_array().shape == (shape if shape[-1] == 3 else (6, 9))
