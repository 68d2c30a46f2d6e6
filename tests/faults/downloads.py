"""Downloads that are killed midway, and two at once: a file has the right content or is not there, and the next start
fetches what is missing."""

import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data import fetch
from jaxnets.data.idx import IdxFile, encode_idx
from jaxnets.data.mnist import FILES
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial

RNG = np.random.default_rng(0)
ARRAYS = {name: RNG.integers(0, 10, (9, *want.shape[1:]), np.uint8) for name, want in FILES.items()}
CONTENTS = {name: encode_idx(array) for name, array in ARRAYS.items()}
MISSING = {name: IdxFile(array.shape, hashlib.sha256(CONTENTS[name]).hexdigest()) for name, array in ARRAYS.items()}
PIECE = 200
SLOW = 0.02
"""Seconds before each piece: all four files take about 0.8."""


class Slow(BaseHTTPRequestHandler):
    """A mirror that takes its time."""

    asked = threading.Event()

    def do_GET(self) -> None:
        body = gzip.compress(CONTENTS[self.path.strip("/").removesuffix(".gz")])
        self.asked.set()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for begin in range(0, len(body), PIECE):
                time.sleep(SLOW)
                self.wfile.write(body[begin : begin + PIECE])
        except OSError:  # of a client that was killed
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def mirror() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def download(url: str, folder: Path) -> None:
    """As the first start of an experiment does it; of those files that are not there."""
    fetch.MIRRORS = (url,)  # type: ignore[assignment]
    missing = {name: want for name, want in MISSING.items() if not (folder / name).exists()}
    fetch.fetch(missing, folder)


def started(url: str, folder: Path) -> Any:
    process = CONTEXT.Process(target=download, args=(url, folder))
    process.start()
    return process


def wrong(folder: Path) -> list[str]:
    """Files that are there under a final name, and hold something else than they should."""
    return [path.name for path in folder.glob("[!.]*") if path.read_bytes() != CONTENTS.get(path.name)]


def whole(folder: Path) -> bool:
    """Whether all files are there; a temporary file that a kill left may stay for a day."""
    return {path.name for path in folder.glob("[!.]*")} == CONTENTS.keys() and not wrong(folder)


def downloads(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Two of three are killed, and followed by another; the third is of two at once."""
    with mirror() as url:
        for trial in range(trials):
            place = folder / str(trial)
            kill = trial % 3 < 2
            Slow.asked.clear()
            first = started(url, place)
            if kill:
                Slow.asked.wait(60)
                first.join(rng.uniform(0, 0.8))
                first.kill()
                first.join()
            struck, bad = first.exitcode != 0, wrong(place)
            second = started(url, place)
            for process in (first, second):
                process.join(60)
            codes = [second.exitcode] if kill else [first.exitcode, second.exitcode]
            failure = "" if not bad and whole(place) and not any(codes) else f"{bad}, exit {codes}, {wrong(place)}"
            yield Trial(struck or not kill, failure)
