"""Data is never executed: no source unpickles, evaluates or starts a shell, and no hostile file runs code."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.train_rows import was_trained_on
from jaxnets.store.weights import read_weights

ROOT = Path(__file__).parents[1]
RUNS_THE_GUIDE = ROOT / "experiments" / "notebooks" / "guide.py"  # executes the cells of GUIDE.md, which is no data
SOURCES = [path for folder in ("jaxnets", "experiments", "scratch") for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES.remove(RUNS_THE_GUIDE)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
METHODS = {"system", "popen", "extract", "extractall"}


def suspicious(path):
    """Yield the imports and calls of a source file that could execute data, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"{node.lineno}: {name}" for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            if getattr(node.func, "id", None) in FUNCTIONS or getattr(node.func, "attr", None) in METHODS:
                yield f"{node.lineno}: {ast.unparse(node.func)}()"
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "shell") and ast.unparse(keyword.value) != "False":
                    yield f"{node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_executes_data(path):
    assert list(suspicious(path)) == []


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.mkdir, (self.canary,)


@pytest.fixture
def hostile(tmp_path):
    """hostile(name) -> an .npz with a pickle as its array `name`. Unpickling it would create the canary folder."""

    def make(name):
        np.savez(tmp_path / "hostile.npz", **{name: np.array([Bomb(tmp_path / "canary")], object)})
        return tmp_path / "hostile.npz"

    yield make
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test", "anything"])
def test_a_pickle_in_an_archive_is_not_executed(hostile, name):
    with pytest.raises(InputError):
        data.load(str(hostile(name)))


def test_a_pickle_instead_of_weights_or_hashes_is_not_executed(hostile, tmp_path):
    with pytest.raises(InputError, match="holds Python objects"):
        read_weights(hostile("params"), {"params": np.zeros(1)})
    (tmp_path / "train_rows.npy").write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    with pytest.raises(InputError, match="is damaged"):
        was_trained_on(tmp_path, np.zeros((1, 8, 8, 1), np.uint8))


def test_the_audit_hook_itself_works(tmp_path):
    with pytest.raises(PermissionError, match=r"pickle\.find_class"):
        pickle.loads(pickle.dumps(Bomb(tmp_path / "canary")))
    assert not (tmp_path / "canary").exists()
