"""Exports an ensemble of trained models to one file that JAX runs without this package:

    import pathlib
    from jax import export
    predict = export.deserialize(bytearray(pathlib.Path("ensemble.jax").read_bytes()))
    probabilities = predict.call(images)

images (B, H, W, C) uint8 for any B, ink 255; probabilities (B, K) float32, the mean over the models."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file

from ..cli.console import say
from ..cli.options import run
from ..cli.paths import writable_file

if TYPE_CHECKING:
    from jaxnets.runs import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    runs: tuple[Path, ...] = ()
    """Directories of trained models. If omitted, the pretrained models are used."""
    out: Path = Path("checkpoints/ensemble.jax")
    """File to write."""


def export_mean(runs: "list[Run]") -> bytes:
    """Return the serialised program with its weights, for CPUs, GPUs and TPUs; float32, without TTA.

    The models need the same image shape and classes. The convolution algorithms are chosen for the device on which the
    program is exported.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    from jaxnets.models.functional import apply

    def predict(images: jax.Array) -> jax.Array:
        pixels = images.astype(jnp.float32) / 255
        logits = [apply(run.graphdef, run.params, run.stats, pixels, train=False)[0] for run in runs]
        return jax.nn.softmax(jnp.stack(logits)).mean(axis=0)

    batch = export.symbolic_shape(f"B, {', '.join(map(str, runs[0].config.image_shape))}")
    program = export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(batch, np.uint8))
    return bytes(program.serialize())


def open_runs(folders: list[Path]) -> "list[Run]":
    """Open trained models; raise InputError if there are none, or if their image shapes or classes differ."""
    from jaxnets.runs import open_run

    if not folders:
        problem = "no models given, and this copy has no pretrained models"
        raise InputError("--runs", problem, "give directories of trained models")
    runs = [open_run(folder) for folder in folders]
    shapes = [(run.config.image_shape, run.config.num_classes) for run in runs]
    for folder, shape in zip(folders, shapes, strict=True):
        if shape != shapes[0]:
            problem = f"expects image shape and classes {shape}, but {folders[0]} expects {shapes[0]}"
            raise InputError(folder, problem, "use them separately")
    return runs


def main(options: ExportOptions) -> None:
    from jaxnets.devices import choose_devices
    from jaxnets.store.weights import PRETRAINED

    if find_spec("flatbuffers") is None:  # needed by jax.export
        raise InputError("flatbuffers", "is not installed", "pip install -e '.[export]'")
    writable_file(options.out)
    choose_devices(None)
    folders = list(options.runs) or [path.parent for path in sorted(PRETRAINED.glob("*/config.json"))]
    content = export_mean(open_runs(folders))
    with atomic_file(options.out) as draft:
        draft.write_bytes(content)
    say(f"{options.out}: {len(folders)} model{'s' * (len(folders) > 1)}, {len(content) / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(main, ExportOptions, resumes=False)
