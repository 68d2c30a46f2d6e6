"""Renders a template to a self-contained page: no scripts, no external requests, all values escaped."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.image import imsave

from jaxnets.store.atomic import atomic_file

FOLDER = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render the template of that name to `path`, atomically."""
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"percent": percent, "seconds": seconds, "count": "{:,}".format}
    text = environment.get_template(template).render(**content)
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")


def percent(value: float | None, digits: int = 2) -> str:
    """Format a fraction as a percentage with a no-break space; "-" for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def seconds(value: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 20 s, 1 h 59 min."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min"


def png(image: np.ndarray) -> str:
    """image (H, W), (H, W, 1) or (H, W, 3), uint8 or float in [0, 1] -> a data: URL. Grey images are black on white."""
    grey = image.ndim == 2 or image.shape[-1] == 1
    limit = 255 if image.dtype == np.uint8 else 1
    pixels = image.reshape(image.shape[:2]) if grey else np.clip(image, 0, limit)
    return png_url(pixels, cmap="gray_r", vmin=0, vmax=limit)


def signed_png(weights: np.ndarray) -> str:
    """weights (H, W) -> a data: URL. Positive weights are red, negative ones blue."""
    limit = float(np.abs(weights).max())
    return png_url(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)


def png_url(pixels: np.ndarray, **colors: Any) -> str:
    file = io.BytesIO()
    imsave(file, pixels, format="png", **colors)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
