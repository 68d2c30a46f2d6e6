"""Links, images, and module names in the documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for pattern in ("*.md", "*/*.md", "tests/faults/*.md") for path in ROOT.glob(pattern))
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


def prose(path):
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """The fragments of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(document, link):
    path, _, fragment = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    return not target.exists() or (fragment and fragment not in anchors(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    assert [link for link in links if not link.startswith(("https://", "http://")) and is_broken(document, link)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_images_have_alternative_text(document):
    texts = re.findall(r"!\[([^\]]*)\]\(", prose(document))
    assert [text for text in texts if len(text.split()) < 5] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_in_commands_exist(document):
    text = document.read_text(encoding="utf-8")
    modules = set(re.findall(r"(?:-m\s+|`)((?:experiments|tests)(?:\.[a-z_]+)+)", text))
    assert [name for name in sorted(modules) if not is_module(name)] == []


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


PLACEHOLDER = "YOUR-NAME"
USES = {
    "GUIDE.md": 1,
    "README.md": 1,
    "experiments/notebooks/colab.py": 1,
    "experiments/notebooks/guide.py": 1,
    "experiments/notebooks/kaggle.py": 1,
    "experiments/notebooks/kernel-metadata.json": 1,
}
"""Where the address of the repository must be filled in; the notebooks are made from these."""


def test_the_placeholder_of_the_address_stands_where_it_is_known_to():
    patterns = [
        *("*.md", "*.cfg", "*.cff"),
        *(f"{name}/**/*" for name in ("docs", "experiments", "jaxnets", "scratch")),
    ]
    suffixes = {".md", ".cfg", ".cff", ".py", ".json"}
    files = {path for pattern in patterns for path in ROOT.glob(pattern) if path.suffix in suffixes}
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count(PLACEHOLDER) for path in files}
    assert {name: count for name, count in found.items() if count} == USES
