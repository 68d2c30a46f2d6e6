"""The command `jaxnets NAME ...`: runs the script of that name, as `python -m experiments.NAME` does in a clone."""

import runpy
import sys

from jaxnets.errors import InputError

from .. import start_script
from .exit_codes import in_one_line

SCRIPTS = {
    "pipeline": "train, predict and ensemble all models of a preset",
    "train": "train one model",
    "predict": "predict validation and test images",
    "pseudo-label": "label test images for students",
    "ensemble": "average all models' predictions",
    "evaluate": "accuracies, report.html",
    "cross-validate": "out-of-fold predictions of all labelled images",
    "train-scratch": "train the NumPy network",
    "draw": "draw a digit in the browser",
    "benchmark": "compare with PyTorch and Keras",
    "cluster.launch": "several processes on one machine",
    "studies.ablate": "change one setting at a time",
    "studies.speedrun": "train to a target accuracy",
    "studies.figures": "draw the guide's figures",
    "tools.publish": "copy trained models into the package",
    "tools.publish-entry": "keep a submission with all that rebuilds it",
    "tools.export": "one file that JAX runs without this package",
    "tools.list-models": "sizes of the model families",
    "tools.classify-photo": "classify a photograph of a digit",
}
"""What each script does, by its module's name with dashes."""


def main() -> None:
    """Entry point of the console script."""
    start_script()
    with in_one_line(resumes=False):
        name = sys.argv[1] if len(sys.argv) > 1 else "--help"
        if name in ("-h", "--help"):
            names = {name.rpartition(".")[2]: text for name, text in SCRIPTS.items()}
            print("usage: jaxnets COMMAND ...; each command explains its options with --help\n")
            print("\n".join(f"  {name:<16} {text}" for name, text in names.items()))
            return
        module = next((one for one in SCRIPTS if one.rpartition(".")[2] == name), None)
        if module is None:
            raise InputError(f"jaxnets {name}", "is no command", "see jaxnets --help")
    package = __name__.partition(".")[0]
    del sys.argv[1]
    runpy.run_module(f"{package}.{module.replace('-', '_')}", run_name="__main__", alter_sys=True)
