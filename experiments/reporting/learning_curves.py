"""Learning curves: training loss, errors on held-out images and learning rate by epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from jaxnets import plots
from jaxnets.plots import MARKERS, SERIES, Curve, inline_svg, plot_curves, save_png

MAX_LEGEND = 6
"""Maximum number of curves with a legend in a PNG file."""


class Panel(NamedTuple):
    """One quantity of all models; `number` is the format of its values in the description for screen readers."""

    title: str
    curves: list[Curve]
    number: str
    log_scale: bool = True

    def description(self) -> str:
        """Return where each curve begins and ends, for readers who cannot see it."""
        ends = [
            f"{curve.name} from {self.number.format(curve.values[0])} to {self.number.format(curve.values[-1])}"
            for curve in self.curves
        ]
        return f"{self.title} by epoch: {', '.join(ends)}"


def make_panels(loss: list[Curve], errors: list[Curve], learning_rate: list[Curve], kind: str) -> list[Panel]:
    """Return the panels of a report. `errors` in percent, on images of that kind; empty if there are none."""
    panels = [
        Panel("training loss", loss, "{:.3f}"),
        Panel(f"errors on {kind} images, %", errors, "{:.2f} %"),
        Panel("learning rate", learning_rate, "{:.2g}", log_scale=False),
    ]
    return [panel for panel in panels if panel.curves]


def error_percent(accuracy: float, num_images: int) -> float:
    """Return the error in percent; half an image if there is none, as a logarithmic axis has no zero."""
    return 100 * max(1 - accuracy, 0.5 / num_images)


def page_section(panels: Sequence[Panel], legend: Sequence[Curve]) -> dict[str, Any]:
    """Return the charts and the legend for a page."""
    charts = []
    for panel in panels:
        [axes] = plots.panels()
        plot_curves(axes, panel.curves, panel.title, log_scale=panel.log_scale)
        charts.append(Markup(inline_svg(axes.figure, panel.description())))
    numbers = [curve.color % len(SERIES) for curve in legend]
    entries = [
        {"name": curve.name, "color": number, "marker": list(MARKERS.values())[number], "dashed": curve.dashed}
        for curve, number in zip(legend, numbers, strict=True)
    ]
    return {"charts": charts, "legend": entries}


def save_learning_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Write the panels side by side to a PNG file."""
    grid = plots.panels(len(panels))
    for axes, panel in zip(grid, panels, strict=True):
        plot_curves(axes, panel.curves, panel.title, log_scale=panel.log_scale)
    if len(panels[1].curves) <= MAX_LEGEND:
        grid[1].legend(fontsize=8)
    save_png(grid[0].figure, path)
