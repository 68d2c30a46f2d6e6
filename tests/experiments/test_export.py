import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.tools import list_models
from experiments.tools.export import ExportOptions, main
from jaxnets.errors import InputError
from jaxnets.inference.ensemble import combine
from jaxnets.inference.predict import make_predict
from jaxnets.recipes import standard
from jaxnets.runs import open_run
from jaxnets.store.weights import PRETRAINED

FOLDERS = tuple(PRETRAINED / family for family in ("wide_cnn", "inception"))
CLIENT = """
import pathlib, sys
import numpy as np
from jax import export
predict = export.deserialize(bytearray(pathlib.Path("ensemble.jax").read_bytes()))
np.save("probabilities.npy", predict.call(np.load("images.npy")))
assert not any(name.startswith(("jaxnets", "flax")) for name in sys.modules)
"""


def test_an_exported_ensemble_runs_without_this_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(ExportOptions(runs=FOLDERS, out=tmp_path / "ensemble.jax"))
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    np.save("images.npy", images)
    subprocess.run([sys.executable, "-c", CLIENT], check=True, cwd=tmp_path)
    runs = [open_run(folder) for folder in FOLDERS]
    log_probs = [make_predict(run.graphdef, jax.devices()[:1])(run.params, run.stats, images) for run in runs]
    # The models compute in bfloat16, whose relative precision is 2^-8.
    np.testing.assert_allclose(np.load("probabilities.npy"), np.exp(combine(np.stack(log_probs))), atol=2**-7)


def test_a_missing_model_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="is no trained run"):
        main(ExportOptions(runs=(tmp_path,), out=tmp_path / "ensemble.jax"))
    assert not list(tmp_path.iterdir())


def test_every_family_is_listed_with_its_size(capsys):
    list_models.main(list_models.ModelsOptions())
    table = capsys.readouterr().out
    for recipe, parameters in zip(standard().recipes, (307_690, 254_362, 257_690, 216_298, 319_106), strict=True):
        line = next(line for line in table.splitlines() if f" {recipe.family} " in line)
        assert f"{parameters:,}" in line
        assert "99." in line


def test_operations_include_the_largest_layers():
    minimum = 2 * 3 * 3 * 32 * 32 * 28 * 28  # a 3 x 3 layer of senet on 32 feature maps of 28 x 28
    assert minimum < list_models.describe(standard().recipe("senet"))["flops"] < 20 * minimum
