"""Writes experiments/notebooks/NAME.ipynb from NAME.py: python -m experiments.notebooks.convert

The scripts are in the percent format, which editors know: a line `# %%` begins a cell of code, `# %% [markdown]` one of
text. A test holds that the notebooks are what the scripts say, and runs them.
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
    """The text of a script -> the notebook (nbformat 4.5) as JSON; its outputs are empty."""
    _, *parts = CELL.split(script)
    cells = [cell(number, *pair) for number, pair in enumerate(zip(parts[::2], parts[1::2], strict=True))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def cell(number: int, head: str, body: str) -> dict[str, Any]:
    """`head` is what stands behind the percent signs: [markdown], or tags of a cell of code."""
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
