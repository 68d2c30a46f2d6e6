"""Scripts on top of the library: `jaxnets NAME`, or `python -m experiments.NAME` in a clone."""

import os
import signal
import sys


def start_script() -> None:
    """Prepares a process for the imports of a script."""
    os.environ.pop("MPLBACKEND", None)  # plots go to files: no backend is needed, and a missing one would be an error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback


if sys.argv[:1] == ["-m"]:
    start_script()
