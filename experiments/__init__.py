"""Scripts that put the parts together; run as python -m experiments.NAME."""

import os
import signal
import sys

if sys.argv[:1] == ["-m"]:  # a script is starting, and its imports follow
    os.environ.pop("MPLBACKEND", None)  # plots go to files: no backend is needed, and a missing one would be an error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback
