"""Helpers for notebooks on Kaggle and Colab. They need only the standard library and IPython of the notebook's Python.

The package is installed in a separate environment and runs in processes of that environment, because JAX, NumPy and
pandas of Kaggle and Colab are older than required, and other packages there depend on them.
"""

import html
import os
import shutil
import subprocess
import sys
from pathlib import Path

from IPython.display import HTML, Image, display


def run(*command: object) -> None:
    """Run a command, print its output as it appears, and raise CalledProcessError if it fails."""
    # matplotlib raises an error if the backend of the notebook is not installed in the environment.
    environment = os.environ | {"MPLBACKEND": "agg"}
    words, home, pipe = [str(word) for word in command], Path(__file__).parents[2], subprocess.PIPE
    with subprocess.Popen(
        words, cwd=home, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


def install(code: Path, environment: Path, wheels: Path | None = None) -> Path:
    """Install the package, with CUDA if there is an NVIDIA GPU, in a new environment and return its Python.

    If a directory below `wheels` holds the packages, they are installed from there, without internet.
    """
    # Colab's Python has no ensurepip, so the environment has no pip: the pip outside installs into it.
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    # CUDA 12 works with the drivers of CUDA 12 and 13, and with GPUs as old as the P100.
    extra = "[cuda12]" if shutil.which("nvidia-smi") else ""
    found = sorted(wheels.glob("**/jaxlib-*.whl")) if wheels else []
    offline = ["--no-index", "--find-links", found[0].parent] if found else []
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *offline, "--editable", f"{code}{extra}")
    return python


def competition(inputs: Path) -> Path:
    """Return the directory with the data of "Digit Recognizer"; its depth differs between Kaggle sessions."""
    tables = sorted(inputs.glob("**/digit-recognizer/train.csv"))
    if not tables:
        raise FileNotFoundError(
            f"{inputs} contains no digit-recognizer: click Add Input, Competitions, Digit Recognizer"
        )
    return tables[0].parent


def show(folder: Path, *names: str) -> None:
    """Display the named plots of a directory; without names its report in a frame, or all plots if there is none."""
    report = folder / "report.html"
    if report.is_file() and not names:
        page = html.escape(report.read_text(encoding="utf-8"))
        frame = f'<iframe srcdoc="{page}" width="100%" height="900" style="border: 0"></iframe>'
        display(HTML(f"<div>{frame}</div>"))
        return
    for path in [folder / name for name in names] or sorted(folder.glob("*.png")):
        display(Image(path))
