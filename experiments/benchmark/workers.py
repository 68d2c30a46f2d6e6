"""One process for each library, told by pipe what to do next: none has another's threads or memory around it."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .case import Case, Side, Weights


class Worker:
    """A process that has built its side of a case and runs a piece of work each time it is asked."""

    def __init__(self, library: str, case: Case | str, weights: Weights | None = None, *, name: str | None = None):
        """A `case` that is a precision measures the machine itself. RuntimeError if the process cannot build it."""
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.library = name or library
        self.process = context.Process(target=serve, args=(other, library, case, weights), daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this process, which ends them
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        other.close()
        self.facts, self.works, self.weights = self.receive()

    def receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.library}: its process ended") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.library}: {answer}")
        return answer

    def time(self, work: str) -> float:
        """Does it once -> seconds."""
        self.pipe.send(work)
        return self.receive()

    def close(self) -> dict[str, int | None]:
        """Ends the process -> the most memory it ever held, in bytes: its own, and on the accelerator."""
        self.pipe.send(None)
        memory = self.receive()
        self.process.join()
        return memory


def serve(pipe: Connection, library: str, case: Case | str, weights: Weights | None) -> None:
    begin = time.perf_counter()
    try:
        side, weights = open_side(library, case, weights)
        for work in side.works.values():  # compiled and warmed up off the clock
            work()
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    facts = {**side.facts, "ready_seconds": time.perf_counter() - begin}
    pipe.send((facts, list(side.works), weights))
    while (work := pipe.recv()) is not None:
        begin = time.perf_counter()
        side.works[work]()
        pipe.send(time.perf_counter() - begin)
    pipe.send({"host_bytes": host_bytes(), "device_bytes": side.device_bytes()})


def host_bytes() -> int:
    """The most memory that this process ever held. Linux' ru_maxrss would begin with the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def open_side(library: str, case: Case | str, weights: Weights | None) -> tuple[Side, Weights | None]:
    if isinstance(case, str):
        from . import jaxnets_backend

        return jaxnets_backend.limits(case), None
    if weights is None:
        from . import jaxnets_backend

        return jaxnets_backend.build(case)
    if library == "keras":
        os.environ["KERAS_BACKEND"] = "jax"
        from . import keras_backend

        return keras_backend.build(case, weights), None
    from . import torch_backend

    return torch_backend.build(case, weights, compiled=library == "torch.compile"), None
