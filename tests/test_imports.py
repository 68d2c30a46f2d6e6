import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_JAX = {"jax", "flax", "optax", "orbax", "jaxnets.models", "jaxnets.augment", "jaxnets.training", "jaxnets.runs"}
NEVER = {
    "jaxnets": {"experiments", "tests", "scratch"},
    "jaxnets.data": NO_JAX,
    "jaxnets.readers": NO_JAX,
    "jaxnets.config": NO_JAX,
    "jaxnets.errors": NO_JAX,
    "jaxnets.files": NO_JAX,
    "jaxnets.seal": NO_JAX,
    "jaxnets.lock": NO_JAX,
    "jaxnets.augment": {"flax", "optax", "orbax", "jaxnets.models", "jaxnets.training", "jaxnets.runs"},
    "experiments": {"tests"},
}
ONLY = {
    "scratch": {"scratch", "numpy"},
    "jaxnets.models": {"jaxnets.models", "jax", "flax", "numpy"},
    "jaxnets.normalise": {"numpy"},
}
HOW_TO_OPEN_A_RUN = {"jaxnets.training.checkpoint", "jaxnets.training.parallel"}


def within(name, prefixes):
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


def imports(path):
    """The dotted names that a file imports, those inside its functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def arrows(prefix):
    """(file, imported name) for the module or the whole package `prefix`."""
    path = ROOT.joinpath(*prefix.split("."))
    paths = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [(str(path.relative_to(ROOT)), name) for path in paths for name in imports(path)]


@pytest.mark.parametrize("prefix", NEVER)
def test_what_is_never_imported(prefix):
    assert [arrow for arrow in arrows(prefix) if within(arrow[1], NEVER[prefix])] == []


@pytest.mark.parametrize("prefix", ONLY)
def test_what_alone_is_imported(prefix):
    allowed = ONLY[prefix] | sys.stdlib_module_names
    assert [arrow for arrow in arrows(prefix) if not within(arrow[1], allowed)] == []


def test_inference_knows_of_training_how_to_open_a_run():
    of_training = [arrow for arrow in arrows("jaxnets.inference") if within(arrow[1], {"jaxnets.training"})]
    assert [arrow for arrow in of_training if not within(arrow[1], HOW_TO_OPEN_A_RUN)] == []


def test_data_and_config_leave_jax_out():
    code = "import sys, jaxnets.data, jaxnets.config; print({'jax', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
