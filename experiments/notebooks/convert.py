"""Converts experiments/notebooks/NAME.py to NAME.ipynb: python -m experiments.notebooks.convert

The scripts are in the percent format: a line `# %%` starts a code cell, `# %% [markdown]` a Markdown cell. A test
checks that the notebooks match the scripts, and runs them.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxnets.store.atomic import write_json

FOLDER = Path(__file__).parent
NAMES = ("kaggle", "colab")
CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)


def notebook(script: str) -> dict[str, Any]:
    """Convert the text of a script to a notebook without outputs."""
    _, *parts = CELL.split(script)
    return notebook_of(cell(number, *pair) for number, pair in enumerate(zip(parts[::2], parts[1::2], strict=True)))


def cell(number: int, head: str, body: str) -> dict[str, Any]:
    """Return a cell. `head` is the text after the percent signs: [markdown], or the tags of a code cell."""
    if head.strip() == "[markdown]":
        return text_cell(number, re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE))
    tags = re.search(r"tags=(\[.*\])", head)
    return code_cell(number, body.strip(), **({"tags": json.loads(tags[1])} if tags else {}))


def notebook_of(cells: Iterable[dict[str, Any]], **metadata: Any) -> dict[str, Any]:
    """Return a notebook (nbformat 4.5) of these cells."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": [*cells], "metadata": {"kernelspec": kernel, **metadata}, "nbformat": 4, "nbformat_minor": 5}


def text_cell(number: int, text: str) -> dict[str, Any]:
    common = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}}
    return {**common, "source": text.splitlines(keepends=True)}


def code_cell(number: int, source: str, **metadata: Any) -> dict[str, Any]:
    common = {"cell_type": "code", "id": f"cell-{number}", "metadata": metadata}
    return {**common, "execution_count": None, "outputs": [], "source": source.splitlines(keepends=True)}


def main() -> None:
    for name in NAMES:
        script = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        write_json(FOLDER / f"{name}.ipynb", notebook(script))


if __name__ == "__main__":
    main()
