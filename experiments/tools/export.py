"""Writes trained networks, and the mean of what they say, into one file that JAX runs without this package:

    import pathlib
    from jax import export
    answer = export.deserialize(bytearray(pathlib.Path("ensemble.jax").read_bytes()))
    probabilities = answer.call(images)

Images are (B, H, W, C) uint8 for any B, ink 255; probabilities (B, K) float32."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.cli.console import say
from experiments.cli.options import run
from experiments.cli.paths import writable_file
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file

if TYPE_CHECKING:
    from jaxnets.runs import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    runs: tuple[Path, ...] = ()
    """Folders of trained networks; the ones that come with the repository unless given."""
    out: Path = Path("checkpoints/ensemble.jax")
    """The file to write."""


def export_mean(runs: "list[Run]") -> bytes:
    """-> the serialised program, weights and all, for CPUs, GPUs and TPUs alike; the plain picture, float32.

    The networks see images of one shape and have the same classes. A CPU's choice of convolutions is part of it where
    it is exported on one.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    from jaxnets.models.functional import apply

    def answer(images: jax.Array) -> jax.Array:
        pixels = images.astype(jnp.float32) / 255
        logits = [apply(run.graphdef, run.params, run.stats, pixels, train=False)[0] for run in runs]
        return jax.nn.softmax(jnp.stack(logits)).mean(axis=0)

    batch = export.symbolic_shape(f"B, {', '.join(map(str, runs[0].config.image_shape))}")
    program = export.export(jax.jit(answer), platforms=PLATFORMS)(jax.ShapeDtypeStruct(batch, np.uint8))
    return bytes(program.serialize())


def open_runs(folders: list[Path]) -> "list[Run]":
    """InputError where there are none, or they do not go together."""
    from jaxnets.runs import open_run

    if not folders:
        raise InputError(
            "--runs", "names no networks, and none come with this copy", "name folders of trained networks"
        )
    runs = [open_run(folder) for folder in folders]
    kinds: list[Any] = [(*run.config.image_shape, run.config.num_classes) for run in runs]
    for folder, kind in zip(folders, kinds, strict=True):
        if kind != kinds[0]:
            problem = f"is for images and classes of {kind}, {folders[0]} for {kinds[0]}"
            raise InputError(folder, problem, "export them apart")
    return runs


def main(options: ExportOptions) -> None:
    from jaxnets.devices import choose_devices
    from jaxnets.store.weights import PRETRAINED

    if find_spec("flatbuffers") is None:  # jax.export writes with it
        raise InputError("flatbuffers", "is not installed", "pip install -e '.[export]'")
    writable_file(options.out)
    choose_devices(None)
    folders = list(options.runs) or [path.parent for path in sorted(PRETRAINED.glob("*/config.json"))]
    content = export_mean(open_runs(folders))
    with atomic_file(options.out) as draft:
        draft.write_bytes(content)
    say(f"{options.out}: {len(folders)} network{'s' * (len(folders) > 1)}, {len(content) / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(main, ExportOptions, resumes=False)
