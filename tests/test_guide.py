"""Runs GUIDE.md from top to bottom, every cell in one namespace: what the text claims, the cells assert."""

import re
import warnings
from pathlib import Path

from threadpoolctl import threadpool_limits

GUIDE = Path(__file__).parents[1] / "GUIDE.md"
CELL = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cells():
    """[(line of the guide, source)]; the source is moved down, so that a traceback names the guide's own lines."""
    text = GUIDE.read_text(encoding="utf-8")
    places = [(text.count("\n", 0, match.start(1)), match[1]) for match in CELL.finditer(text)]
    return [(line + 1, "\n" * line + source) for line, source in places]


def test_every_cell_runs_in_order(monkeypatch):
    monkeypatch.chdir(GUIDE.parent)
    namespace = {"__name__": "guide"}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error")
        for line, source in cells():
            try:
                exec(compile(source, GUIDE.name, "exec"), namespace)
            except Exception as error:
                error.add_note(f"the cell at {GUIDE.name}:{line}")
                raise


def test_every_fence_is_a_cell_or_says_what_else_it_is():
    text = GUIDE.read_text(encoding="utf-8")
    opened = [fence for fence in re.findall(r"^```(.*)$", text, re.MULTILINE) if fence]
    assert set(opened) <= {"python", "sh"}
    assert opened.count("python") == len(cells()) > 60


def test_every_link_leads_somewhere():
    text = GUIDE.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    headings = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert len(set(targets) & anchors) == 16
    files = [target for target in targets if target not in anchors]
    assert files
    assert [target for target in files if not (GUIDE.parent / target).exists()] == []
