import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imsave
from nbclient import NotebookClient

import experiments
from experiments.notebooks import host
from experiments.notebooks.convert import FOLDER, NAMES, notebook
from experiments.notebooks.host import competition, run, show

ROOT = Path(experiments.__file__).parents[1]


@pytest.fixture
def execute(surroundings, monkeypatch, tmp_path):
    """execute(name, **parameters) -> the outputs of a notebook with other values in its cell of parameters."""
    for variable, value in surroundings.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def call(name, **parameters):
        given = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        index = next(number for number, cell in enumerate(given.cells) if "parameters" in cell.metadata.get("tags", []))
        parameters |= {"CODE": ROOT, "PYTHON": sys.executable}
        values = [f"{key} = {str(value)!r}" for key, value in parameters.items()]
        paths = "CODE, OUTPUTS = Path(CODE), Path(OUTPUTS)"
        given.cells.insert(index + 1, nbformat.v4.new_code_cell("\n".join([*values, paths])))
        NotebookClient(given, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return [output for cell in given.cells if cell.cell_type == "code" for output in cell.outputs]

    return call


def printed(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_match_their_scripts(name):
    given = json.loads((FOLDER / f"{name}.ipynb").read_text())
    assert given == notebook((FOLDER / f"{name}.py").read_text())
    nbformat.validate(nbformat.from_dict(given))
    code = [cell for cell in given["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    kinds = [cell["cell_type"] for cell in given["cells"]]
    assert all(first != "code" or second == "markdown" for first, second in pairwise(kinds))


def test_the_kaggle_notebook_writes_a_submission(execute, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "results")
    outputs = execute("kaggle", OUTPUTS=tmp_path, DATA="digits", PRESET="smoke", FOLDS=2)
    assert (tmp_path / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()
    assert "ensemble" in printed(outputs)
    assert "2 folds of digits, 1,438 rows" in printed(outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2 + 3  # the preview, the folds
    assert "ImageId,Label\n1," in printed(outputs)


def test_the_colab_notebook_classifies_a_digit(execute, centred, tmp_path):
    images, labels = centred
    rows = {"x_train": np.concatenate([np.roll(images, shift, axis=2) for shift in range(4)]), "x_test": images}
    np.savez(tmp_path / "mnist.npz", **rows, y_train=np.tile(labels, 4), y_test=labels)
    imsave(tmp_path / "mine.png", 255 - np.kron(images[0], np.ones((8, 8), np.uint8)), cmap="gray", vmin=0, vmax=255)
    sources = {"DATA": tmp_path / "mnist.npz", "IMAGE": tmp_path / "mine.png"}
    outputs = execute("colab", OUTPUTS=tmp_path, FAMILY="wide_cnn", PRESET="smoke", **sources)
    assert "NumPy MLP" in printed(outputs)
    assert "wide_cnn-0" in printed(outputs)
    assert "image/png" in outputs[-1].data


@pytest.mark.parametrize("path", ["digit-recognizer", "competitions/digit-recognizer"])
def test_the_competition_data_is_found_at_any_depth(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="Add Input"):
        competition(tmp_path)
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / "train.csv").touch()
    assert competition(tmp_path) == tmp_path / path


def test_a_report_is_displayed_in_a_frame_or_else_the_plots(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(host, "display", shown.append)
    imsave(tmp_path / "curve.png", np.zeros((2, 2)))
    show(tmp_path)
    (tmp_path / "report.html").write_text('<p class="x">9 &gt; 8</p>')
    show(tmp_path)
    plot, frame = shown
    assert plot.data == (tmp_path / "curve.png").read_bytes()
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;9 &amp;gt; 8&lt;/p&gt;"' in frame.data


@pytest.mark.parametrize("attached", [False, True])
def test_attached_packages_are_installed_without_internet(tmp_path, monkeypatch, attached):
    commands = []
    monkeypatch.setattr(host, "run", lambda *command: commands.append(list(map(str, command))))
    folder = tmp_path / "inputs" / "packages"
    folder.mkdir(parents=True)
    if attached:
        (folder / "jaxlib-1.whl").touch()
    python = host.install(tmp_path / "code", tmp_path / "environment", wheels=tmp_path / "inputs")
    assert python == tmp_path / "environment" / "bin" / "python"
    assert ("--no-index" in commands[-1], str(folder) in commands[-1]) == (attached, attached)


def test_a_failing_command_stops_the_notebook(capfd):
    run(sys.executable, "-c", "print('well')")
    with pytest.raises(Exception, match="non-zero exit status 3"):
        run(sys.executable, "-c", "print('badly'); raise SystemExit(3)")
    assert capfd.readouterr().out == "well\nbadly\n"
