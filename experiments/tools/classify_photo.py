"""Classifies a photo of a digit with trained models: prints a table and writes a plot."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.errors import InputError, short_message
from jaxnets.store.bounded import read_bytes
from jaxnets.store.manifest import check_manifest

from ..cli.console import percent, say, show_table
from ..cli.options import run
from ..cli.paths import writable_file
from ..reporting.error_analysis import short_names
from .export import open_runs

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Accepted image formats. For some others, Pillow starts external programs."""

PIXELS = 40_000_000
"""Maximum size of an image. Decoding takes up to 20 bytes per pixel, and a file of 20 kB may hold any number."""

SIDE = 280
"""Pixels of the longer side to which an image is scaled down: ten times the input of the models."""


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    image: Path
    """Image file of one digit on plain paper: a photo, a scan or a drawing."""
    runs: tuple[Path, ...] = ()
    """Directories of trained models. If omitted, the pretrained models are used."""
    scratch: Path | None = None
    """Directory of a NumPy model to use as well: the output of experiments.train_scratch, or
    checkpoints/pretrained/scratch."""
    out: Path = Path("checkpoints/answer.png")
    """File of the plot (.png)."""


def read_ink(path: Path) -> np.ndarray:
    """Read an image file -> ink (H, W) float32, 0 on the paper. The ink may be darker or lighter than the paper.

    Raises InputError if the file is no image in one of the FORMATS, or too large.
    """
    from PIL import Image, ImageOps

    content = read_bytes(path, limit=100_000_000)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.width * file.height > PIXELS:
                raise ValueError(f"{file.width} x {file.height} pixels")
            file.draft("L", (SIDE, SIDE))  # decodes a large JPEG at a lower resolution
            ImageOps.exif_transpose(file, in_place=True)  # phones store the orientation in EXIF
            image = as_rgba(file)
    except Exception as error:  # Pillow raises errors of any kind on damaged files, especially its EXIF reader
        fix = f"use a .png or .jpg of at most {PIXELS:,} pixels"
        raise InputError(path, f"cannot be read as an image ({short_message(error)})", fix) from error
    image.thumbnail((SIDE, SIDE))
    white = Image.new("RGBA", image.size, "white")
    return extract_ink(np.asarray(Image.alpha_composite(white, image).convert("L"), np.float32))


def as_rgba(image: "Image.Image") -> "Image.Image":
    """Converts an image of any mode to RGBA. 16-bit grey values are scaled down; Pillow would clip them at 255."""
    from PIL import Image

    if image.mode.startswith("I"):
        grey = np.asarray(image)
        image = Image.fromarray((grey // (grey.max() // 255 + 1)).astype(np.uint8))
    return image.convert("RGBA")


def extract_ink(grey: np.ndarray) -> np.ndarray:
    """grey (H, W) -> the contrast of each pixel with the paper around it, 0 below a threshold."""
    from scipy.ndimage import black_tophat

    paper_is_dark = np.median(grey) < 128
    # The window is wider than a stroke, so that shadows do not count as ink.
    ink = black_tophat(255 - grey if paper_is_dark else grey, size=max(grey.shape) // 3)
    return np.where(ink > 0.35 * ink.max(), ink, 0)


def predict_scratch(folder: Path, image: np.ndarray) -> np.ndarray:
    """image (28, 28) uint8 -> probabilities (K,) of a published NumPy model, or of seed 0 of a training."""
    from scratch.train import MLPConfig
    from scratch.train import predict as predict_mlp
    from scratch.weights import load_params

    from ..demo.predictor import load_scratch

    seed = folder / "seed-0"
    made_from = check_manifest(seed) if seed.is_dir() else {}
    try:
        if (folder / "settings.json").is_file():
            params, settings = load_scratch(folder)
        else:
            settings = MLPConfig(activation=made_from["recipe"]["activation"])
            params = load_params(seed / "weights.npz")
        return np.exp(predict_mlp(params, image[None].astype(np.float32) / 255, settings))[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"contains no NumPy model for images of {image.shape}"
        raise InputError(folder, problem, "give the output directory of experiments.train_scratch") from error


def predict(folders: list[Path], image: np.ndarray) -> list[np.ndarray]:
    """image (28, 28) uint8 -> probabilities (K,) of each trained model."""
    import jax

    probabilities = []
    for folder, model in zip(folders, open_runs(folders), strict=True):
        if model.config.image_shape != (*image.shape, 1):
            problem = f"expects images of shape {model.config.image_shape}"
            raise InputError(folder, problem, "give models for 28 x 28 pixels; others predict as docs/LIBRARY.md shows")
        logits = model.model()(image[None, ..., None].astype(np.float32) / 255)
        probabilities.append(np.asarray(jax.nn.softmax(logits))[0])
    return probabilities


def draw(path: Path, image: np.ndarray, names: list[str], probabilities: np.ndarray) -> None:
    """Plot the preprocessed image (28, 28) and the probabilities (M, K)."""
    from jaxnets import plots

    left, right = plots.panels(2, width=4.5, height=3)
    plots.plot_image(left, image, title="input of the models")
    plots.plot_probabilities(right, probabilities, names)
    plots.save_png(left.figure, path)


def main(options: ClassifyOptions) -> None:
    from jaxnets.devices import choose_devices
    from jaxnets.normalise import normalise
    from jaxnets.store.weights import PRETRAINED

    if options.out.suffix != ".png":
        raise InputError(options.out, "is not a .png file", "give a name that ends in .png")
    writable_file(options.out)
    try:
        image = normalise(read_ink(options.image))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(options.image, str(error), "write one digit with a thick pen") from error
    if options.out.exists() and options.out.samefile(options.image):
        raise InputError(options.out, "is the input image", "give another --out")
    choose_devices(None)
    folders = list(options.runs) or [path.parent for path in sorted(PRETRAINED.glob("*/config.json"))]
    models = list(zip(short_names(folders), predict(folders, image), strict=True))
    if options.scratch is not None:
        models.insert(0, ("NumPy MLP", predict_scratch(options.scratch, image)))
    names, probabilities = [name for name, _ in models], [values for _, values in models]
    if len({len(values) for values in probabilities}) > 1:
        problem = f"has {len(probabilities[0])} classes, the other models have {len(probabilities[1])}"
        raise InputError(options.scratch, problem, "give models of the same data")
    rows = [[name, str(values.argmax()), percent(values.max())] for name, values in models]
    show_table(str(options.image), ["model", "prediction", "confidence"], rows)
    draw(options.out, image, names, np.stack(probabilities))
    say(str(options.out))


if __name__ == "__main__":
    run(main, ClassifyOptions, resumes=False)
