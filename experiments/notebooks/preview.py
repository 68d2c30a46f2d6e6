"""Draws what a training will see: digits.png, some labelled images of each class, and augmented.png, the same images as
they are augmented.

    python -m experiments.notebooks.preview --data kaggle --out checkpoints/preview
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets import data
from jaxnets.recipes import preset

from ..cli.options import PresetName, run

COLUMNS = 12
"""Number of images of each class."""


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    data: str = "mnist"
    """The data: mnist, kaggle, digits, or a path, as for the pipeline."""
    data_path: Path | None = None
    """Directory with the files of mnist or kaggle."""
    preset: PresetName = "quick"
    """The preset whose augmentation is shown."""
    out: Path = Path("checkpoints/preview")
    """Directory for the figures."""


def first_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """labels (N,) -> the indices of the first `count` images of each class, class by class."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])


def save_images(path: Path, title: str, images: np.ndarray, columns: int) -> None:
    """Write the images (N, H, W, C), row by row, to a PNG file."""
    from jaxnets.plots import image_grid, new_figure, plot_image, save_png

    rows = -(-len(images) // columns)
    figure = new_figure(0.6 * columns, 0.6 * rows + 0.4)
    figure.suptitle(title)
    for axes, image in zip(image_grid(figure, rows, columns), images, strict=False):
        plot_image(axes, image)
    save_png(figure, path)


def main(options: PreviewOptions) -> None:
    import jax

    from jaxnets.augment import augment

    digits = data.load(options.data, options.data_path)
    strength = preset(options.preset).recipes[0].training.augmentation
    rows = first_rows(digits.y_train, COLUMNS)
    images, classes = digits.x_train[rows], len(np.unique(digits.y_train))
    counts = np.bincount(digits.y_train)
    title = (
        f"{len(digits.y_train):,} labelled images, {counts.min():,} to {counts.max():,} of each of {classes} classes"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    save_images(options.out / "digits.png", title, images, COLUMNS)
    keys = jax.random.split(jax.random.key(0), len(images))
    warped = np.asarray(
        jax.jit(augment, static_argnames="warping")(keys, images.astype(np.float32) / 255, warping=strength)
    )
    save_images(options.out / "augmented.png", f"augmented as in the preset {options.preset}", warped, COLUMNS)


if __name__ == "__main__":
    run(main, PreviewOptions, resumes=False)
