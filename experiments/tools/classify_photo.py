"""Asks trained networks about a picture of your own: a table, and a picture of what they saw and what they say."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.cli.console import percent, say, show_table
from experiments.cli.options import run
from experiments.cli.paths import writable_file
from experiments.reporting.error_analysis import short_names
from experiments.tools.export import open_runs
from jaxnets.errors import InputError, brief
from jaxnets.store.bounded import read_bytes
from jaxnets.store.manifest import check

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""No others: some of what Pillow reads, it has other programs read."""

PIXELS = 40_000_000
"""Maximum size of an image. Decoding takes up to 20 bytes per pixel, and a file of 20 kB may hold any number."""

SIDE = 280
"""Pixels of the longer side that a picture is made smaller to: ten times what the networks see."""


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    picture: Path
    """A file with one digit, on paper without lines: a photograph, a scan, a drawing."""
    runs: tuple[Path, ...] = ()
    """Folders of trained networks; the ones that come with the repository unless given."""
    scratch: Path | None = None
    """What experiments.train_scratch left, or checkpoints/pretrained/scratch: the network in NumPy is asked too."""
    out: Path = Path("checkpoints/answer.png")
    """The picture to draw."""


def read_ink(path: Path) -> np.ndarray:
    """A picture file -> (H, W) float, 0 where there is only paper; light ink on dark paper is understood too."""
    from PIL import Image, ImageOps

    content = read_bytes(path, limit=100_000_000)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.width * file.height > PIXELS:
                raise ValueError(f"{file.width} x {file.height} pixels")
            file.draft("L", (SIDE, SIDE))  # of a large photograph no more is decoded
            ImageOps.exif_transpose(file, in_place=True)  # telephones tell by EXIF which side is up
            picture = as_rgba(file)
    except Exception as error:  # a damaged file leads Pillow, and above all its reader of EXIF, to errors of any kind
        fix = f"bring a .png or .jpg of at most {PIXELS:,} pixels"
        raise InputError(path, f"cannot be read as an image ({brief(error)})", fix) from error
    picture.thumbnail((SIDE, SIDE))
    white = Image.new("RGBA", picture.size, "white")
    return ink_of(np.asarray(Image.alpha_composite(white, picture).convert("L"), np.float32))


def as_rgba(image: "Image.Image") -> "Image.Image":
    """Converts an image of any mode to RGBA. 16-bit grey values are scaled down; Pillow would clip them at 255."""
    from PIL import Image

    if image.mode.startswith("I"):
        grey = np.asarray(image)
        image = Image.fromarray((grey // (grey.max() // 255 + 1)).astype(np.uint8))
    return image.convert("RGBA")


def ink_of(grey: np.ndarray) -> np.ndarray:
    """grey (H, W) -> how much darker each pixel is than the paper around it, 0 where that is little."""
    from scipy.ndimage import black_tophat

    paper_is_dark = np.median(grey) < 128
    # Wider than a stroke, so that shadows on the paper are no ink.
    ink = black_tophat(255 - grey if paper_is_dark else grey, size=max(grey.shape) // 3)
    return np.where(ink > 0.35 * ink.max(), ink, 0)


def ask_scratch(folder: Path, image: np.ndarray) -> np.ndarray:
    """image (28, 28) uint8 -> probabilities (K,) of the first network in NumPy that a folder holds."""
    from experiments.demo.predictor import load_scratch
    from scratch.train import Settings, predict
    from scratch.weights import load_params

    seed = folder / "seed-0"
    made_from = check(seed) if seed.is_dir() else {}
    try:
        if (folder / "settings.json").is_file():
            params, settings = load_scratch(folder)
        else:
            settings = Settings(activation=made_from["recipe"]["activation"])
            params = load_params(seed / "weights.npz")
        return np.exp(predict(params, image[None].astype(np.float32) / 255, settings))[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(folder, f"holds no network for {image.shape} pixels", "name one of train_scratch") from error


def ask(folders: list[Path], image: np.ndarray) -> list[np.ndarray]:
    """image (28, 28) uint8 -> probabilities (K,) of each trained network."""
    import jax

    answers = []
    for folder, network in zip(folders, open_runs(folders), strict=True):
        if network.config.image_shape != (*image.shape, 1):
            raise InputError(folder, f"is for images of {network.config.image_shape}", "name networks for 28 x 28")
        logits = network.model()(image[None, ..., None].astype(np.float32) / 255)
        answers.append(np.asarray(jax.nn.softmax(logits))[0])
    return answers


def check_classes(folder: Path, ours: np.ndarray, *others: np.ndarray) -> None:
    """InputError unless the network of that folder has as many classes as the others: one picture shows them all."""
    if others and len(ours) != len(others[0]):
        problem = f"has {len(ours)} classes, the other networks have {len(others[0])}"
        raise InputError(folder, problem, "name networks of the same data")


def draw(path: Path, image: np.ndarray, names: list[str], probabilities: np.ndarray) -> None:
    from matplotlib.figure import Figure

    from jaxnets import plots

    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    left.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    left.set(title="what they see", xticks=[], yticks=[])
    plots.shade(right, names, probabilities)
    right.set_title("what they say")
    plots.save(figure, path)


def main(options: ClassifyOptions) -> None:
    from jaxnets.devices import choose_devices
    from jaxnets.normalise import normalise
    from jaxnets.store.weights import PRETRAINED

    if options.out.suffix != ".png":
        raise InputError(options.out, "is no .png", "give a name that ends so")
    writable_file(options.out)
    try:
        image = normalise(read_ink(options.picture))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(options.picture, str(error), "write one digit on it, thickly") from error
    if options.out.exists() and options.out.samefile(options.picture):
        raise InputError(options.out, "is the picture itself", "give another --out")
    choose_devices(None)
    folders = list(options.runs) or [path.parent for path in sorted(PRETRAINED.glob("*/config.json"))]
    names, answers = short_names(folders), ask(folders, image)
    if options.scratch is not None:
        read = ask_scratch(options.scratch, image)
        check_classes(options.scratch, read, *answers)
        names, answers = ["NumPy alone", *names], [read, *answers]
    rows = [[name, str(answer.argmax()), percent(answer.max())] for name, answer in zip(names, answers, strict=True)]
    show_table(str(options.picture), ["network", "reads", "surely"], rows)
    draw(options.out, image, names, np.stack(answers))
    say(str(options.out))


if __name__ == "__main__":
    run(main, ClassifyOptions, resumes=False)
