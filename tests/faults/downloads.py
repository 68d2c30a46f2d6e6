"""Killed downloads and two at once: each file is complete or absent, and the next start downloads what is missing."""

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
CHUNK_BYTES = 200
DELAY = 0.02
"""Seconds before each chunk: all four files take about 0.8."""


class Slow(BaseHTTPRequestHandler):
    """A slow mirror."""

    requested = threading.Event()

    def do_GET(self) -> None:
        body = gzip.compress(CONTENTS[self.path.strip("/").removesuffix(".gz")])
        self.requested.set()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for begin in range(0, len(body), CHUNK_BYTES):
                time.sleep(DELAY)
                self.wfile.write(body[begin : begin + CHUNK_BYTES])
        except OSError:  # the client was killed
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
    """Download the missing files, as an experiment does at its first start."""
    fetch.MIRRORS = (url,)  # type: ignore[assignment]
    missing = {name: file for name, file in MISSING.items() if not (folder / name).exists()}
    fetch.fetch(missing, folder)


def started(url: str, folder: Path) -> Any:
    process = CONTEXT.Process(target=download, args=(url, folder))
    process.start()
    return process


def wrong(folder: Path) -> list[str]:
    """Return the names of files with wrong content; temporary files do not count."""
    return [path.name for path in folder.glob("[!.]*") if path.read_bytes() != CONTENTS.get(path.name)]


def complete(folder: Path) -> bool:
    """Return whether all files are complete. A temporary file of a killed process may remain for a day."""
    return {path.name for path in folder.glob("[!.]*")} == CONTENTS.keys() and not wrong(folder)


def downloads(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """In two of three trials a download is killed and started again; in the third, two run at once."""
    with mirror() as url:
        for trial in range(trials):
            target = folder / str(trial)
            kill = trial % 3 < 2
            Slow.requested.clear()
            first = started(url, target)
            if kill:
                Slow.requested.wait(60)
                first.join(rng.uniform(0, 0.8))
                first.kill()
                first.join()
            struck, bad = first.exitcode != 0, wrong(target)
            second = started(url, target)
            for process in (first, second):
                process.join(60)
            codes = [second.exitcode] if kill else [first.exitcode, second.exitcode]
            failure = "" if not bad and complete(target) and not any(codes) else f"{bad}, exit {codes}, {wrong(target)}"
            yield Trial(struck or not kill, failure)
