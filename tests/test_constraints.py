import configparser
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
USED = (SETUP["options"]["install_requires"] + SETUP["options.extras_require"]["dev"]).split("\n")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_has_one_tested_version_that_it_allows(python):
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.0"}
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    tested = [line for line in lines if line.marker is None or line.marker.evaluate(environment)]
    names = [line.name.lower() for line in tested]
    assert len(names) == len(set(names))
    versions = {line.name.lower(): next(iter(line.specifier)).version for line in tested}
    for needed in map(Requirement, filter(None, USED)):
        assert needed.specifier.contains(versions[needed.name.lower()]), needed
