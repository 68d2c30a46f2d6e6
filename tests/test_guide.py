"""Runs GUIDE.md from top to bottom, every cell in one namespace: the cells assert what the text claims."""

import json
import re
import warnings

import nbformat
from threadpoolctl import threadpool_limits

from experiments.notebooks.guide import DRAWN, GUIDE, NOTEBOOK, ROOT, cells, notebook, run

TEXT = GUIDE.read_text(encoding="utf-8")
CELLS = cells(TEXT)


def test_every_cell_runs_in_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error")
        run(TEXT, keep=lambda path, figure: figure.canvas.draw())


def test_every_fence_is_a_cell_or_has_another_language():
    opened = [fence for fence in re.findall(r"^```(.*)$", TEXT, re.MULTILINE) if fence]
    assert set(opened) <= {"python", "sh", "text"}
    assert opened.count("python") == sum(cell.kind == "code" for cell in CELLS) > 100


def test_every_link_leads_somewhere():
    headings = re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)
    anchor = lambda heading: "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    local = {target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if not target.startswith("http")}
    anchors = {target for target in local if target.startswith("#")}
    chapters = {anchor(heading) for heading in headings if re.match(r"\d+\. ", heading)}
    assert len(chapters) > 15
    assert chapters <= anchors <= {anchor(heading) for heading in headings}
    assert [target for target in local - anchors if not (ROOT / target).exists()] == []


def test_every_cited_paper_is_in_the_references():
    body, references = TEXT.split("\n## References\n")
    cited = re.findall(r"\[[^]]*\d{4}[ab]?\]\((https?:[^)]+)\)", body)
    assert len(cited) > 20
    assert [url for url in cited if f"({url})" not in references] == []


def test_the_notebook_matches_the_guide():
    saved = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert saved == notebook(TEXT), "run python -m experiments.notebooks.guide"
    nbformat.validate(nbformat.from_dict(saved))


def test_every_saved_figure_is_drawn_by_one_cell_and_small():
    drawn = sorted(cell.figure for cell in CELLS if cell.figure)
    saved = sorted((ROOT / DRAWN).glob("*.png"))
    assert drawn == [str(path.relative_to(ROOT)) for path in saved]
    sizes = [path.stat().st_size for path in saved]
    assert max(sizes) < 60_000
    assert sum(sizes) < 600_000
