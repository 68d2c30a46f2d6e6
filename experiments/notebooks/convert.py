"""Converts experiments/notebooks/NAME.py to NAME.ipynb: python -m experiments.notebooks.convert

The scripts are in the percent format: a line `# %%` starts a code cell, `# %% [markdown]` a Markdown cell. A test
checks that the notebooks match the scripts, and runs them.
"""

import json
import re
from pathlib import Path
from typing import Any

from jaxnets.store.atomic import write_json

FOLDER = Path(__file__).parent
NAMES = ("kaggle", "colab")
CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)


def notebook(script: str) -> dict[str, Any]:
    """Convert the text of a script to a notebook (nbformat 4.5) without outputs."""
    _, *parts = CELL.split(script)
    cells = [cell(number, *pair) for number, pair in enumerate(zip(parts[::2], parts[1::2], strict=True))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def cell(number: int, head: str, body: str) -> dict[str, Any]:
    """Return a cell. `head` is the text after the percent signs: [markdown], or the tags of a code cell."""
    common = {"id": f"cell-{number}", "metadata": {}}
    if head.strip() == "[markdown]":
        text = re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
        return {"cell_type": "markdown", **common, "source": text.splitlines(keepends=True)}
    tags = re.search(r"tags=(\[.*\])", head)
    if tags:
        common["metadata"] = {"tags": json.loads(tags[1])}
    source = body.strip().splitlines(keepends=True)
    return {"cell_type": "code", **common, "execution_count": None, "outputs": [], "source": source}


def main() -> None:
    for name in NAMES:
        script = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        write_json(FOLDER / f"{name}.ipynb", notebook(script))


if __name__ == "__main__":
    main()
