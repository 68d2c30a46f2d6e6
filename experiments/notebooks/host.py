"""What a notebook on a hired machine needs. Standard library and IPython alone, as the notebook's own Python runs it.

The package goes into an environment of its own, and all work into processes of that one: the JAX, NumPy and pandas that
Kaggle and Colab bring are older than what it needs, and other things there depend on them.
"""

import html
import os
import shutil
import subprocess
import sys
from pathlib import Path

from IPython.display import HTML, Image, display


def run(*command: object) -> None:
    """Runs a command, shows what it says while it says it, and stops the notebook where it fails."""
    # matplotlib refuses a notebook's backend where it is not installed.
    environment = os.environ | {"MPLBACKEND": "agg"}
    words, home, pipe = [str(word) for word in command], Path(__file__).parents[2], subprocess.PIPE
    with subprocess.Popen(
        words, cwd=home, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


def install(code: Path, environment: Path) -> Path:
    """-> the Python of an environment with the code and what it needs, CUDA too where there is an NVIDIA GPU."""
    # Colab's Python has no ensurepip, so the environment gets no pip: the one outside works on it.
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    # CUDA 12 runs on its own drivers and on those of CUDA 13, and on GPUs as old as a P100.
    extra = "[cuda12]" if shutil.which("nvidia-smi") else ""
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--editable", f"{code}{extra}")
    return python


def competition(inputs: Path) -> Path:
    """The folder with the tables of "Digit Recognizer"; Kaggle has put it at different depths."""
    tables = sorted(inputs.glob("**/digit-recognizer/train.csv"))
    if not tables:
        raise FileNotFoundError(f"{inputs} has no digit-recognizer: click Add Input, Competitions, Digit Recognizer")
    return tables[0].parent


def show(folder: Path) -> None:
    """The report that a run left, in a frame of its own, or else its pictures."""
    report = folder / "report.html"
    if report.is_file():
        page = html.escape(report.read_text(encoding="utf-8"))
        frame = f'<iframe srcdoc="{page}" width="100%" height="900" style="border: 0"></iframe>'
        display(HTML(f"<div>{frame}</div>"))
        return
    for picture in sorted(folder.glob("*.png")):
        display(Image(picture))
