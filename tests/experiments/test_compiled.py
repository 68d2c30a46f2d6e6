"""Programs compiled for accelerators: reading XLA's text, and the figures of a program that a CPU can compile."""

import json
from dataclasses import replace
from typing import ClassVar

import jax
import numpy as np
import pytest

from experiments.benchmark import compiled, hlo, race, targets
from experiments.benchmark.__main__ import BenchmarkOptions, main
from experiments.benchmark.compiled import (
    Compiled,
    compile_work,
    lower_bound,
    lower_training,
    predict_seconds,
    shapes_of,
)
from experiments.benchmark.race import Settings, measure_training
from experiments.benchmark.targets import H100, T4, TARGETS, V5E, Gpu, Target
from jaxnets import data, recipes
from jaxnets.config import NO_WARP
from jaxnets.models.functional import count as num_params
from jaxnets.runs import RunConfig
from jaxnets.training.loop import TrainLoop

LOOP = """
HloModule jit_loop, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused_gather (images: u8[1000,4,4,1], rows: s32[8,1]) -> f32[8,4,4,1] {
  %images = u8[1000,4,4,1]{3,2,1,0} parameter(0)
  %rows = s32[8,1]{1,0} parameter(1)
  %taken = u8[8,4,4,1]{3,2,1,0} gather(%images, %rows), offset_dims={1,2,3}, slice_sizes={1,4,4,1}
  ROOT %floats = f32[8,4,4,1]{3,2,1,0} convert(%taken)
}

%fused_head (features: f32[8,3], weights: f32[3,10]) -> f32[8,10] {
  %features = f32[8,3]{1,0} parameter(0)
  %weights = f32[3,10]{1,0} parameter(1)
  ROOT %dot = f32[8,10]{1,0} dot(%features, %weights), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%inner (state: (s32[], f32[6])) -> (s32[], f32[6]) {
  %state = (s32[], f32[6]{0}) parameter(0)
  %vector = f32[6]{0} get-tuple-element(%state), index=1
  %number = s32[] get-tuple-element(%state), index=0
  %copy.1 = f32[6]{0} copy(%vector)
  ROOT %next = (s32[], f32[6]{0}) tuple(%number, %copy.1)
}

%less (state: (s32[], f32[6])) -> pred[] {
  %state.1 = (s32[], f32[6]{0}) parameter(0)
  ROOT %constant.1 = pred[] constant(true)
}

%body (all: (u8[1000,4,4,1], s32[8,1], f32[3,3,3,1], (s32[], f32[6]), /*index=4*/f32[8,3], f32[3,10])) -> f32[3] {
  %all = (u8[1000,4,4,1]{3,2,1,0}, s32[8,1]{1,0}, f32[3,3,3,1]{3,2,1,0}) parameter(0)
  %get.0 = u8[1000,4,4,1]{3,2,1,0} get-tuple-element(%all), index=0
  %get.1 = s32[8,1]{1,0} get-tuple-element(%all), index=1
  %get.2 = f32[3,3,3,1]{3,2,1,0} get-tuple-element(%all), index=2
  %get.3 = (s32[], f32[6]{0}) get-tuple-element(%all), index=3
  %get.4 = f32[8,3]{1,0} get-tuple-element(%all), index=4
  %get.5 = f32[3,10]{1,0} get-tuple-element(%all), index=5
  %batch = f32[8,4,4,1]{3,2,1,0} fusion(%get.0, %get.1), kind=kLoop, calls=%fused_gather
  %conv = (f32[8,4,4,3], u8[0]) custom-call(%batch, %get.2), CUDNN_Forward"
  %map = f32[8,4,4,3]{3,2,1,0} get-tuple-element(%conv), index=0
  %filter = (f32[3,3,3,1], u8[0]) custom-call(%batch, %map), CUDNN_BackwardFilter"
  %gradient = f32[3,3,3,1]{3,2,1,0} get-tuple-element(%filter), index=0
  %moments = f32[2,3]{1,0} all-reduce(%gradient), to_apply=%add, metadata={op_name="jit(f)/while/body/jvp()/psum"}
  %start = ((f32[3,3,3,1]), f32[3,3,3,1]) all-reduce-start(%gradient), metadata={op_name="jit(f)/while/body/psum"}
  %done = f32[3,3,3,1]{3,2,1,0} all-reduce-done(%start)
  %logits = f32[8,10]{1,0} fusion(%get.4, %get.5), kind=kCustom, calls=%fused_head
  %while.1 = (s32[], f32[6]) while(%get.3), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %call.1 = f32[3]{0} custom-call(%logits), custom_call_target="xla_ffi_python_gpu_callback"
}

ENTRY %main (all.1: (u8[1000,4,4,1])) -> f32[3] {
  %all.1 = (u8[1000,4,4,1]{3,2,1,0}) parameter(0)
  %outside = f32[3]{0} fusion(%all.1), kind=kLoop, calls=%fused_gather
  ROOT %while.2 = (u8[1000,4,4,1]{3,2,1,0}) while(%all.1), condition=%less, body=%body
}
""".replace("CUDNN_", 'dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv')


def test_the_step_of_a_loop_is_counted():
    pixels, kernel, output, filters = 8 * 16, 27, 8 * 16 * 3, 27
    counts = hlo.count(LOOP)
    assert counts._replace(accessed_bytes=0) == hlo.Counts(
        convolutions=2,
        library_convolutions=2,
        fusions=2,
        launches=2 + 2 + 2 + 5 + 1,
        all_reduces=2,
        batch_norm_all_reduces=1,
        reduced_bytes=2 * 4 * filters,
        host_transfers=1,
        flops=2 * (2 * pixels * 9 * 3) + 2 * 8 * 3 * 10,
        accessed_bytes=0,
    )
    batch = 4 * pixels + pixels + 4 * 8  # of the stored images only those of the batch are read
    convolutions = 2 * 4 * (pixels + kernel + output)
    reduces = 4 * (6 + filters) + 4 * 3 * filters
    rest = 4 * (24 + 30 + 80) + 5 * 4 * 12 + 4 * (3 + 80)
    assert counts.accessed_bytes == batch + convolutions + reduces + rest


def test_a_program_without_a_loop_is_counted_as_a_whole():
    program = jax.jit(lambda a, b: a @ b).lower(np.ones((5, 7), np.float32), np.ones((7, 3), np.float32)).compile()
    counts = hlo.count(program.as_text())
    assert counts.flops == 2 * 5 * 7 * 3
    assert counts.accessed_bytes >= 4 * (35 + 21 + 15)
    assert counts.launches >= 1


@pytest.mark.usefixtures("quick_compilation")
def test_a_training_loop_is_compiled_and_counted():
    digits, recipe = data.load("digits"), recipes.smoke().recipe("wide_cnn")
    recipe = replace(recipe, training=replace(recipe.training, augmentation=NO_WARP))
    target = Target(T4, jax.devices()[:2], "float32")
    config = RunConfig.of(recipe, digits, seed=0, precision="float32")
    loop = TrainLoop(config=config, num_rows=len(digits.x_train))
    state = shapes_of(loop.init(0))
    program = compile_work("wide_cnn", "training", 32, lower_training(loop, state, digits, target.devices), target)
    gradients = 4 * num_params(state.params)
    assert program.counts.all_reduces > program.counts.batch_norm_all_reduces >= recipe.sizes["depth"]
    assert gradients < program.counts.reduced_bytes < 2 * gradients
    assert program.counts.host_transfers == 0
    assert 1e6 < program.counts.flops < 1e8
    assert program.predicted_seconds > program.bound_seconds > 0
    assert program.argument_bytes > digits.x_train.size


def test_a_step_is_measured_on_the_devices_that_it_is_compiled_for(monkeypatch):
    class FakeWorker:
        facts: ClassVar = {"precision": "float32"}

        def __init__(self, library, case):
            self.library, self.works, self.case = library, {"loop"}, case

        def time(self, work):
            return 7.0 * self.case.steps * self.case.devices

        def close(self):
            pass

    monkeypatch.setattr(race, "Worker", FakeWorker)
    settings, digits = Settings("smoke", "float32", rounds=1, steps=2), data.load("digits")
    assert measure_training("wide_cnn", settings, digits, H100.name, 1) is None
    assert measure_training("wide_cnn", settings, digits, "cpu", 3) is None
    assert measure_training("wide_cnn", settings, digits, "cpu", 2) == 14


def test_the_part_prints_tables_that_fit_a_terminal_and_saves_every_figure(monkeypatch, tmp_path, capsys):
    def compile_family(recipe, digits, target):
        training = Compiled(recipe.family, "training", 32, hlo.count(LOOP), 2**20, 2**20, 2**30, 17.0, 1e-4, 1e-3)
        return [training, training._replace(work="inference")]

    monkeypatch.setattr(targets, "missing_extra", lambda chip: None)
    monkeypatch.setattr(targets, "open_target", lambda name, precision: Target(T4, jax.devices()[:1], "float32"))
    monkeypatch.setattr(compiled, "compile_family", compile_family)
    monkeypatch.setattr(race, "measure_training", lambda *arguments: 0.123456)
    monkeypatch.setenv("COLUMNS", "80")
    main(BenchmarkOptions(parts=("gpu",), target=("t4x1",), preset="smoke", data="digits", out=tmp_path / "b.json"))
    rows = json.loads((tmp_path / "b-gpu-smoke.json").read_text())["results"]["t4x1"]
    assert [(row["family"], row["work"]) for row in rows[:2]] == [("resnet", "training"), ("resnet", "inference")]
    assert [row["measured_seconds"] for row in rows] == 5 * [0.123456, None]
    printed = capsys.readouterr().out
    assert printed.count("123.456") == 5
    assert "…" not in printed


def test_a_target_is_left_out_without_its_compiler(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    main(BenchmarkOptions(parts=("gpu",), target=("t4x2", "v5ex4"), data="digits", out=tmp_path / "b.json"))
    printed = capsys.readouterr().out
    assert "pip install -e '.[cuda13]'" in printed
    assert "pip install -e '.[tpu]'" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_step_of_a_tpu_has_a_bound_but_no_prediction():
    target = Target(V5E, jax.devices()[:1], "bfloat16")
    assert lower_bound(hlo.count(LOOP), target) > 0
    assert predict_seconds(hlo.count(LOOP), target) is None


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_describes_its_gpu(name):
    chip, count = TARGETS[name]
    assert count >= 1
    assert name in BenchmarkOptions.__annotations__["target"].__args__[0].__args__
    if isinstance(chip, Gpu):
        assert f'device_description_str: "{chip.name}"' in chip.description()
        assert chip.description().count("{") == chip.description().count("}")
