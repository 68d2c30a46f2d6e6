"""GUIDE.md in cells: writes guide.ipynb, then runs every cell and saves the figures that the cells draw.

    python -m experiments.notebooks.guide

On GitHub the guide shows what the notebook draws: the image below a cell is the figure of that cell, saved under
docs/figures/guide. The notebook leaves these images out. A test checks that the notebook matches the guide.
"""

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from jaxnets.store.atomic import write_json

from .convert import code_cell, notebook_of, text_cell

ROOT = Path(__file__).parents[2]
GUIDE, NOTEBOOK = ROOT / "GUIDE.md", ROOT / "guide.ipynb"
DRAWN = "docs/figures/guide/"
"""Folder of the figures that cells draw. Other images are shown by a cell of their own, in Colab too."""

SETUP = """\
# Run this cell first. In Colab it installs jaxnets; if you are asked to restart the session, do so and run it again.
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/YOUR-NAME/jaxnets"
if not Path("GUIDE.md").is_file():
    if not Path("jaxnets").is_dir():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY], check=True)
    os.chdir("jaxnets")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", "."], check=True)
    sys.path.insert(0, str(Path.cwd()))
os.environ["JAX_PLATFORMS"] = "cpu"  # the arrays are small
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # chapter 17 needs two devices
"""

TOKEN = re.compile(
    r"^```python\n(?P<code>.*?)^```\n|^!\[[^\n]*\]\((?P<image>[^\n]*)\)\n|^(?P<fold></?details>)[^\n]*\n",
    re.MULTILINE | re.DOTALL,
)


class Cell(NamedTuple):
    """`line` is that of GUIDE.md where a code cell begins, `figure` the image that it draws; the source of an image
    cell is the image's path. `answer` marks the cells of a folded answer."""

    kind: Literal["text", "code", "image"]
    source: str
    answer: bool = False
    line: int = 0
    figure: str = ""


def cells(text: str) -> list[Cell]:
    """Split the guide's Markdown into cells."""
    found: list[Cell] = []
    begin, answer = 0, False
    for token in TOKEN.finditer(text):
        found.append(Cell("text", text[begin : token.start()], answer))
        begin = token.end()
        if token["fold"]:
            answer = token["fold"] == "<details>"
        elif token["code"] is not None:
            found.append(Cell("code", token["code"], answer, text.count("\n", 0, token.start("code")) + 1))
        elif token["image"].startswith(DRAWN):
            drawing = max(number for number, cell in enumerate(found) if cell.kind == "code")
            found[drawing] = found[drawing]._replace(figure=token["image"])
        else:
            found.append(Cell("image", token["image"], answer))
    found.append(Cell("text", text[begin:]))
    return [cell for cell in found if cell.source.strip()]


def notebook(text: str) -> dict[str, Any]:
    """The guide as a notebook without outputs; its first cell installs the project."""
    setup = Cell("code", SETUP)
    numbered = enumerate([setup, *cells(text)])
    return notebook_of((as_json(number, cell) for number, cell in numbered), colab={"toc_visible": True})


def as_json(number: int, cell: Cell) -> dict[str, Any]:
    if cell.kind == "text":
        text = re.sub(r"\]\(#(\d+)-[^)]*\)", r"](#chapter-\1)", cell.source.strip())
        text = re.sub(r"^## (\d+)\.", r'<a id="chapter-\1"></a>\n\n## \1.', text, flags=re.MULTILINE)
        text = re.sub(r"^## References", r'<a id="references"></a>\n\n## References', text, flags=re.MULTILINE)
        return text_cell(number, f"<details><summary>Answer</summary>\n\n{text}\n\n</details>" if cell.answer else text)
    source = cell.source.strip()
    if cell.figure and isinstance(ast.parse(source).body[-1], ast.Expr):
        source += ";"  # shows the figure alone, not what the last call returns
    if cell.kind == "image":
        source = f'from IPython.display import Image\n\nImage("{source}")'
    hidden = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # for JupyterLab, and for Colab
    return code_cell(number, source, **(hidden if cell.answer else {}))


def run(text: str, keep: Callable[[str, Figure], None]) -> None:
    """Run the code cells in order, in one namespace; keep(path, figure) receives each figure.

    Raises:
        ValueError: a cell draws a figure and no image follows it, or the other way round.
    """
    namespace = {"__name__": "guide"}
    plt.switch_backend("agg")
    for cell in cells(text):
        if cell.kind != "code":
            continue
        try:
            # Moved down, so that a traceback names the guide's own lines.
            exec(compile("\n" * (cell.line - 1) + cell.source, GUIDE.name, "exec"), namespace)
            if len(plt.get_fignums()) != bool(cell.figure):
                raise ValueError(f"the cell draws {len(plt.get_fignums())} figures; an image under {DRAWN} follows it")
        except Exception as error:
            error.add_note(f"the cell at {GUIDE.name}:{cell.line}")
            raise
        if cell.figure:
            keep(cell.figure, plt.gcf())
            plt.close()


def main() -> None:
    os.chdir(ROOT)
    text = GUIDE.read_text(encoding="utf-8")
    write_json(NOTEBOOK, notebook(text))
    Path(DRAWN).mkdir(parents=True, exist_ok=True)
    run(text, lambda path, figure: figure.savefig(path, dpi=100))


if __name__ == "__main__":
    main()
