"""The order of the packages: each module may import those before its own, nothing after."""

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    {"jaxnets.errors", "jaxnets.processor"},
    {"jaxnets.config"},
    {"jaxnets.recipes", "jaxnets.normalise", "jaxnets.compilation"},
    {"jaxnets.devices"},
    {"jaxnets.store"},
    {"jaxnets.data", "jaxnets.models", "jaxnets.augment"},
    {"jaxnets.runs"},
    {"jaxnets.inference"},
    {"jaxnets.training"},
    {"jaxnets.plots"},
    {"experiments"},
    {"tests"},
]
"""Modules and packages; within a package, and within one set, there is no order, but no module imports itself by way of
others."""

NO_JAX = {
    "jaxnets.errors",
    "jaxnets.processor",
    "jaxnets.config",
    "jaxnets.data",
    "jaxnets.recipes",
    "jaxnets.normalise",
}
JAX = {"jax", "flax", "optax", "orbax"}


def modules():
    for package in ("scratch", "jaxnets", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


PATHS = dict(modules())


def imported(path, *, late):
    """The dotted names that a file imports: at its top, and if `late` inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if late else top_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def top_level(tree):
    for node in tree.body:
        type_checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) and not type_checking:
            yield from ast.walk(node)


def module_of(name):
    """Return the module of this repository that an imported name is or comes from, None if it is foreign."""
    while name and name not in PATHS:
        name = name.rpartition(".")[0]
    return name or None


@cache
def edges(module, *, late=True):
    return {found for name in imported(PATHS[module], late=late) if (found := module_of(name))} - {module}


def level(module):
    return next(number for number, names in enumerate(ORDER) if any(f"{module}.".startswith(f"{n}.") for n in names))


def closure(module):
    """All that importing the module imports, its parent packages too."""
    found, waiting = set(), {module}
    while waiting:
        one = waiting.pop()
        found.add(one)
        parents = {one.rpartition(".")[0]} & PATHS.keys()
        waiting |= (edges(one, late=False) | parents) - found
    return found


@pytest.mark.parametrize("module", [name for name in PATHS if not name.startswith("scratch") and name != "jaxnets"])
def test_a_module_imports_what_comes_before_it(module):
    later = [other for other in edges(module) if other.startswith("jaxnets.") and level(other) > level(module)]
    assert later == []
    if module.startswith("jaxnets"):
        assert [other for other in edges(module) if not other.startswith("jaxnets")] == []


def test_packages_do_not_import_each_other_in_a_circle():
    """Folders of experiments and packages of jaxnets, by what their modules import at their top or later."""
    package = lambda module: module if PATHS[module].name == "__init__.py" else module.rpartition(".")[0]
    arrows = {(package(a), package(b)) for a in PATHS for b in edges(a)} - {(p, p) for p in map(package, PATHS)}
    stages = ("jaxnets", "experiments")  # modules next to the packages
    circles = [(a, b) for a, b in arrows if (b, a) in arrows and not {a, b} & set(stages)]
    assert circles == []


def test_scratch_imports_numpy_alone():
    names = {name for module in PATHS if module.startswith("scratch") for name in imported(PATHS[module], late=True)}
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"scratch", "numpy"}


def test_models_import_only_jax_flax_and_what_comes_before_them():
    needed = set().union(*(closure(module) for module in PATHS if module.startswith("jaxnets.models")))
    names = {name.partition(".")[0] for module in needed for name in imported(PATHS[module], late=False)}
    assert names - sys.stdlib_module_names <= {"jax", "flax", "numpy", "jaxnets"}


@pytest.mark.parametrize("module", sorted(NO_JAX))
def test_data_and_config_do_not_import_jax(module):
    names = {name.partition(".")[0] for one in closure(module) for name in imported(PATHS[one], late=False)}
    assert names & JAX == set()
