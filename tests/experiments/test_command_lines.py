import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import experiments
from experiments import draw, pipeline, train
from experiments.cli import output_dir
from experiments.cli.job import open_job
from experiments.cli.options import Options, TrainingChanges, run, start_jax
from experiments.cli.output_dir import register
from experiments.cli.paths import writable_file
from experiments.cli.presets import chosen_preset
from experiments.draw import DrawOptions
from experiments.pseudo_label import choose_pseudo_labels
from experiments.studies import speedrun
from experiments.studies.speedrun import SpeedrunOptions
from experiments.tools import classify_photo, export, list_models
from experiments.tools.classify_photo import ClassifyOptions
from experiments.tools.export import ExportOptions
from experiments.tools.list_models import ModelsOptions
from experiments.train import TrainOptions
from jaxnets import data, recipes
from jaxnets.config import to_json
from jaxnets.errors import InputError
from jaxnets.store.atomic import temporary_sibling
from tests.experiments.processes import finish

ROOT = Path(experiments.__file__).parents[1]
OTHERS = {"experiments.studies.scan_gradient", "experiments.notebooks.convert", "experiments.notebooks.guide"}
SCRIPTS = sorted(
    {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in (ROOT / "experiments").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    - OTHERS
)
HELP = """
import runpy, sys
sys.argv = ["", "--help"]
try:
    runpy.run_module({name!r}, run_name="__main__")
except SystemExit as end:
    print("exit", end.code, "jax" in sys.modules)
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_not_import_jax(script):
    code = HELP.format(name=script)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    *text, end = done.stdout.splitlines()
    assert end == "exit 0 False"
    assert {"launch": "--processes", "draw": "--port", "list_models": "--preset", "figures": "--to"}.get(
        script.rpartition(".")[2], "--out"
    ) in "\n".join(text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_during_the_imports_prints_no_traceback(script, tmp_path):
    (tmp_path / "rich.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [sys.executable, "-m", script]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")  # a shell reports 130


def test_a_missing_matplotlib_backend_is_not_needed(start):
    code, _, stderr = finish(start("-m", "experiments.train_scratch", "--help", MPLBACKEND="nonsense"))
    assert (code, stderr) == (0, "")


COMPLETION = r"""
pipeline() {{ {python} -m experiments.pipeline "$@"; }}
eval "$(pipeline --tyro-print-completion bash)"
for COMP_LINE in "pipeline --pres" "pipeline --preset s"; do
    COMP_WORDS=($COMP_LINE) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMP_POINT=${{#COMP_LINE}} COMPREPLY=()
    $(complete -p pipeline | sed "s/.*-F \([^ ]*\).*/\1/")
    echo "${{COMPREPLY[@]}}"
done
"""


def test_a_shell_completes_options_and_their_values():
    command = ["bash", "-c", COMPLETION.format(python=sys.executable)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["--preset", "smoke standard"]


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """error_of(main, options, *arguments) -> the error of a program that exits with code 2."""
    monkeypatch.chdir(tmp_path)

    def call(main, options, *arguments):
        monkeypatch.setattr(sys, "argv", ["experiment", "--no-compilation-cache", *arguments])
        with pytest.raises(SystemExit) as end:
            run(main, options)
        assert end.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.fixture
def no_device(monkeypatch):
    """As with JAX_PLATFORMS=cuda if JAX lacks the plugin."""

    def fail():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", fail)


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize(
    ("main", "given"),
    [
        (list_models.main, ModelsOptions()),
        (export.main, ExportOptions(out=Path("new/ensemble.jax"))),
        (
            classify_photo.main,
            ClassifyOptions(
                image=ROOT / "experiments" / "studies" / "figures" / "linear.png", out=Path("new/answer.png")
            ),
        ),
        (draw.main, DrawOptions(port=0, browser=False)),
        (train.main, TrainOptions(preset="smoke", data="digits", out=Path("new"), compilation_cache=False)),
    ],
)
def test_a_missing_device_is_named(tmp_path, monkeypatch, main, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="JAX_PLATFORMS: there is no device of that kind"):
        main(given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("main", "given", "words"),
    [
        (export.main, ExportOptions(runs=(Path("nowhere"),), out=Path("new/a/b.jax")), "nowhere"),
        (classify_photo.main, ClassifyOptions(image=Path("nowhere.png"), out=Path("new/a/b.png")), r"nowhere\.png"),
        (speedrun.main, SpeedrunOptions(data="digits", devices=99, out=Path("new/a/b.json")), "devices: 99"),
    ],
)
def test_an_error_creates_no_directory(tmp_path, monkeypatch, main, given, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        main(given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.with_name("target"))])
def test_a_pipe_or_a_link_is_not_replaced(tmp_path, make):
    (tmp_path / "target").touch()
    make(tmp_path / "out")
    with pytest.raises(InputError, match="out: exists and is not a regular file"):
        writable_file(tmp_path / "out")
    writable_file(tmp_path / "target")


def test_a_name_leaves_space_for_the_temporary_name(tmp_path):
    longest = tmp_path / ("é" * 115)
    writable_file(longest)
    temporary_sibling(longest).touch()
    with pytest.raises(InputError, match="has a name of more than 230 bytes"):
        writable_file(tmp_path / ("é" * 116))


@pytest.mark.parametrize("home", ["relative", "~nobody/.cache", "/sur\udcffr", "gs://bucket"])
def test_a_cache_that_jax_cannot_use_is_not_used(monkeypatch, home):
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setattr(jax.config, "update", None)
    start_jax(Options())


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_job_json_is_an_error(error_of, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "job.json").write_bytes(content)
    error = error_of(pipeline.main, pipeline.PipelineOptions, "--preset", "smoke", "--data", "digits", "--out", "out")
    assert error.count("\n") == 1
    assert "job.json" in error
    assert "Fix: " in error


def test_a_directory_is_tied_to_its_settings(tmp_path):
    settings = {"preset": to_json(recipes.preset("smoke")), "seed": 0}
    register(tmp_path, settings)
    register(tmp_path, settings)
    with pytest.raises(InputError, match=r"another seed \(0, not 1\)"):
        register(tmp_path, settings | {"seed": 1})
    with pytest.raises(InputError, match="was used before"):
        register(tmp_path, settings, resume=False)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", ["thesis/", "members/", "submission.csv", "report.json"])
def test_a_directory_with_other_content_is_an_error(tmp_path, name):
    (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"holds '{name.rstrip('/')}', but no job.json"):
        register(tmp_path, {"seed": 0})
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]


def test_a_directory_may_contain_a_log(tmp_path):
    (tmp_path / "log").touch()
    register(tmp_path, {"seed": 0})


@pytest.mark.parametrize(("seed", "words"), [(0, None), (1, "another seed")])
def test_of_two_simultaneous_starts_the_slower_compares(tmp_path, monkeypatch, seed, words):
    write = output_dir.write_json

    def late(path, value, *, new):
        write(path, {"seed": 0})
        write(path, value, new=new)

    monkeypatch.setattr(output_dir, "write_json", late)
    with pytest.raises(InputError, match=words) if words else nullcontext():
        register(tmp_path, {"seed": seed})
    assert json.loads((tmp_path / "job.json").read_text()) == {"seed": 0}


def test_more_seeds_and_families_may_come_later(tmp_path):
    options = Options(preset="smoke", data="digits", out=tmp_path, compilation_cache=False)
    digits = data.load("digits")
    with open_job(options, digits, begins=True) as job:
        one_seed = job.teachers()
    with open_job(replace(options, families=("senet", "resnet")), digits, begins=True) as job:
        assert [member.name for member in job.members()] == ["senet-0", "resnet-0"]
    with open_job(replace(options, seeds=2, students=("senet",)), digits, begins=True) as job:
        assert (job.teachers()[:5], len(job.teachers()), len(job.students())) == (one_seed, 10, 1)
    changed = replace(options, training=TrainingChanges(epochs=6))
    for other, words in (
        (replace(options, seed=1), "seed "),
        (changed, r"preset\.recipes\.0\.training\.epochs \(4, not 6"),
    ):
        with pytest.raises(InputError, match=f"another {words}"), open_job(other, digits, begins=True):
            raise AssertionError


def test_the_command_line_changes_seeds_families_and_students():
    assert chosen_preset(Options(families=("senet",)), "smoke") == replace(
        recipes.smoke(), families=("senet",), students=()
    )
    changed = chosen_preset(Options(seeds=2, students=("senet", "resnet")), "smoke")
    assert changed == replace(recipes.smoke(), seeds=2, students=("senet", "resnet"))
    assert chosen_preset(Options(students=()), "quick").students == ()
    assert chosen_preset(Options(preset="competition"), "quick") == recipes.competition()


def test_pseudo_labels_need_validation_rows(tmp_path):
    options = Options(preset="smoke", data="digits", out=tmp_path, compilation_cache=False)
    with (
        open_job(options, data.load("digits"), begins=True) as job,
        pytest.raises(InputError, match="holds out no rows"),
    ):
        choose_pseudo_labels(replace(job, data=replace(job.data, valid_rows=np.zeros(0, int))))
    assert not (tmp_path / "pseudo_labels").exists()


def test_a_batch_that_does_not_divide_writes_nothing(error_of, tmp_path, monkeypatch):
    smoke = recipes.smoke()
    odd = replace(smoke.recipes[0], training=replace(smoke.recipes[0].training, batch_size=34))
    monkeypatch.setattr(recipes, "preset", lambda name: replace(smoke, recipes=(odd,)))
    error = error_of(pipeline.main, pipeline.PipelineOptions, "--preset", "smoke", "--data", "digits", "--out", "out")
    assert "34 does not divide into pairs on 2 devices" in error
    assert not (tmp_path / "out").exists()
