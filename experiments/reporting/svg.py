"""Line and dot charts of a report, as SVG text for a page. Colours are the page's, so that one drawing suits light and
dark; each panel is narrow enough for a phone."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK, FAINT = "#010101", "#020202"
SERIES = tuple(f"#03030{number}" for number in range(6))
"""Colours that nobody sees: in the page `var(--ink)`, `var(--faint)` and `var(--series-0)` stand in their places."""
PAGE = {INK: "var(--ink)", FAINT: "var(--faint)"} | {c: f"var(--series-{n})" for n, c in enumerate(SERIES)}

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "svg.hashsalt": "jaxnets",  # or else the same chart has other bytes every time
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


class Line(NamedTuple):
    """One network's: its name, the number of its colour, whether it is dashed, and a value an epoch."""

    name: str
    colour: int
    dashed: bool
    epochs: list[float]
    values: list[float]


@contextmanager
def panel(drawn: list[Markup], says: str, *, height: float = 2.7) -> Iterator[Axes]:
    """Yields axes to draw on; what was drawn is appended to `drawn`, with `says` for those who cannot see it."""
    with rc_context(STYLE):
        figure = Figure(figsize=(3.7, height), layout="constrained")
        yield figure.subplots()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn.append(inline(text.getvalue(), says))


def inline(text: str, says: str) -> Markup:
    """An SVG file -> an element of a page: of the page's colours and fonts, with a label, and without the names that
    several in one page would share."""
    text = text[text.index("<svg") :]
    size = re.search(r'viewBox="[^"]*"', text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index(">") + 1 :], flags=re.DOTALL)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda name: f' id="{own}-{name[1]}"' if name[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{own}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for colour, variable in PAGE.items():
        text = text.replace(colour, variable)
    assert size is not None
    return Markup(f'<svg role="img" aria-label="{escape(says)}" {size[0]}>') + Markup(text.strip())


def draw_curves(lines: Sequence[Line], title: str, says: str, *, logarithmic: bool = True) -> Markup:
    """A value of each network by epoch."""
    drawn: list[Markup] = []
    with panel(drawn, says) as axes:
        for line in lines:
            colour, dash = SERIES[line.colour % len(SERIES)], "--" if line.dashed else "-"
            marker = "o" if len(line.epochs) == 1 else ""
            axes.plot(line.epochs, line.values, color=colour, linestyle=dash, marker=marker, alpha=0.85)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch")
        axes.set_title(title, loc="left")
    return drawn[0]


def draw_reliability(sureness: np.ndarray, right: np.ndarray, title: str, says: str) -> Markup:
    """Share of right answers by confidence, sureness (N,) and right (N,) of bool: Guo et al. 2017, figure 4. A dot is a
    tenth of confidence, its area for how many images are there."""
    drawn: list[Markup] = []
    with panel(drawn, says, height=3.7) as axes:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=":")
        places = np.minimum((sureness * 10).astype(int), 9)
        for place in np.unique(places):
            inside = places == place
            x, y, count = sureness[inside].mean(), right[inside].mean(), int(inside.sum())
            axes.scatter(x, y, s=14 + 45 * np.log10(count), color=SERIES[0], alpha=0.85, linewidths=0, zorder=3)
            axes.annotate(f"{count:,}", (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=8)
        axes.set(xlabel="how sure they are", ylabel="share of right answers", xlim=(0, 1.06), ylim=(0, 1.13))
        axes.set_title(title, loc="left")
    return drawn[0]


def draw_members(errors: list[list[int]], images: int, says: str) -> Markup:
    """Errors among so many images against the number of networks: a dot a choice of them, their mean a line."""
    drawn: list[Markup] = []
    with panel(drawn, says) as axes:
        sizes = list(range(1, len(errors) + 1))
        for size, counts in zip(sizes, errors, strict=True):
            axes.scatter(np.full(len(counts), size), counts, s=26, color=SERIES[0], alpha=0.45, linewidths=0)
        axes.plot(sizes, [np.mean(counts) for counts in errors], color=SERIES[1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="networks averaged")
        axes.set_title(f"errors of {images:,} images", loc="left")
    return drawn[0]


def describe_curves(lines: Sequence[Line], what: str, show: Callable[[float], str]) -> str:
    """For those who cannot see the chart: where each line begins and ends."""
    ends = [f"{line.name} from {show(line.values[0])} to {show(line.values[-1])}" for line in lines]
    return f"{what} by epoch: {', '.join(ends)}"
