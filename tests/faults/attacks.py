"""Hostile requests to the demo server: each gets an error or is disconnected, and other clients are served."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.trial import Trial

ROOT = Path(__file__).parents[2]
CUT = 0
"""Instead of a status: the connection ends without a response."""

BINARY = "Content-Type: application/octet-stream"
DRAWING = np.pad(np.full((100, 30), 255, np.uint8), ((34, 34), (69, 69))).tobytes()


def get(path: str, *lines: str, host: str = "127.0.0.1:PORT", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def post(*lines: str, body: bytes = DRAWING) -> bytes:
    length = [] if any("Length" in line or "chunked" in line for line in lines) else [f"Content-Length: {len(body)}"]
    kind = [] if any("Type" in line for line in lines) else [BINARY]
    return get("/predict", *kind, *length, *lines, method="POST") + body


ATTACKS: dict[str, tuple[bytes, set[int]]] = {
    "nothing at all": (b"", {CUT}),
    "half a line": (b"GET / HT", {CUT}),
    "endless headers": (get("/")[:-2] + b"X-More: ", {CUT}),
    "a missing body": (post("Content-Length: 28224", body=b"x"), {CUT}),
    "a terabyte announced": (post("Content-Length: 1000000000000", body=b"x"), {CUT}),
    "endless chunks": (post("Transfer-Encoding: chunked", body=b"1\r\nx\r\n"), {CUT}),
    "an invalid chunk size": (post("Transfer-Encoding: chunked", body=b"zz\r\n"), {400}),
    "noise": (np.random.default_rng(0).bytes(1000) + b"\r\n\r\n", {400}),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(200) + b"\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403}),
    "NUL in a header": (get("/", "X: \0"), {400}),
    "a folded line": (get("/", "X: a", " b"), {200, 400}),
    "a foreign host": (get("/", host="example.com"), {403}),
    "a foreign host with our port": (get("/", host="example.com:PORT"), {403}),
    "our host with another port": (get("/", host="127.0.0.1:1"), {403}),
    "our host as a user name": (get("/", host="127.0.0.1:PORT@example.com"), {400, 403}),
    "an empty host": (get("/", host=""), {403}),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "no host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", {403}),
    "two hosts": (get("/", "Host: example.com"), {400}),
    "a foreign URL": (get("http://example.com/"), {404}),
    "a foreign origin": (post("Origin: http://example.com"), {403}),
    "a null origin": (post("Origin: null"), {403}),
    "our origin with https": (post("Origin: https://127.0.0.1:PORT"), {403}),
    "a parent path": (get("/../../../../etc/passwd"), {404}),
    "an encoded parent path": (get("/%2e%2e/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "a path to our source": (get("/page.css/../../server.py"), {404}),
    "a long path": (get("/" + 20_000 * "a"), {400, 431}),
    "a long header": (get("/", f"X: {20_000 * 'a'}"), {400, 431}),
    "an endless header": (get("/", f"X: {100_000 * 'a'}")[:-4], {400}),
    "many headers": (get("/", *(f"X{number}: y" for number in range(5_000))), {400, 431}),
    "a negative length": (post("Content-Length: -1"), {400}),
    "two lengths": (post("Content-Length: 1", "Content-Length: 28224"), {400}),
    "length and chunks": (post("Content-Length: 1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400}),
    "a large body": (post(body=bytes(70_000)), {413}),
    "a large body in chunks": (
        post("Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (70_000, bytes(70_000))),
        {413},
    ),
    "a small body": (post(body=b"12345"), {400}),
    "a missing pixel": (post(body=DRAWING[:-1]), {400}),
    "an extra pixel": (post(body=DRAWING + b"x"), {400}),
    "JSON": (post("Content-Type: application/json", body=b'{"pixels": [NaN, 1e999]}'), {415}),
    "a form": (post("Content-Type: application/x-www-form-urlencoded", body=b"a=b"), {415}),
    "blank paper": (post(body=bytes(168 * 168)), {400}),
    "another method": (get("/predict", method="DELETE"), {405}),
    "a tunnel": (get("example.com:443", method="CONNECT"), {400, 404, 405}),
    "a web socket": (get("/predict", "Connection: upgrade", "Upgrade: websocket"), {405}),
    "a thousand requests in one": (1000 * get("/about"), {200}),
}


def strike(port: int, attack: bytes, *, patience: float) -> int:
    """Return the status of the response. Raises TimeoutError if the connection does not end."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):  # the server may close it while we still send
            connection.sendall(attack.replace(b"PORT", str(port).encode()))
            while part := connection.recv(1 << 16):
                received += part
    if received.count(b"HTTP/1.1 ") > 1:
        raise ValueError("a connection had two responses")
    return int(received[9:12]) if received else CUT


@contextlib.contextmanager
def draw(stderr: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield the program, with the repository's pretrained models, and its port."""
    command = [sys.executable, "-m", "experiments.draw", "--no-browser", "--port", "0"]
    with stderr.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        port = next(int(found[1]) for line in process.stdout if (found := re.match(r"http://127.0.0.1:(\d+)", line)))
        yield process, port
    finally:
        process.terminate()
        process.communicate()


def resident(process: subprocess.Popen[str]) -> float:
    """Return the resident memory in MiB."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def hostile(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Each attack with 200 silent connections and a regular request; finally, 25 times as many regular requests."""
    with draw(folder / "stderr") as (process, port):
        names = list(ATTACKS)
        for number in range(trials):
            yield Trial(True, against(port, names[number % len(names)]))
        before = resident(process)
        for _ in range(25 * trials):
            strike(port, post(), patience=20)
        grown = resident(process) - before
        yield Trial(True, f"memory grew by {grown:.1f} MiB" if grown > 5 else "")
        yield Trial(True, "it listens on another address too" if is_open(port, "127.0.0.2") else "")
    text = (folder / "stderr").read_text()
    yield Trial(True, text if "Traceback" in text else "")


def is_open(port: int, address: str) -> bool:
    with socket.socket() as other:
        return other.connect_ex((address, port)) == 0


def against(port: int, name: str) -> str:
    """Return what went wrong with an attack, or with a regular request during the attack and 200 silent connections."""
    attack, allowed = ATTACKS[name]
    with contextlib.ExitStack() as connections:
        for number in range(201):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"" if number else attack.replace(b"PORT", str(port).encode()))
        begin = time.monotonic()
        regular = strike(port, post(), patience=20)
        seconds = time.monotonic() - begin
    status = strike(port, attack, patience=15)
    if status not in allowed:
        return f"{name}: status {status}"
    return "" if regular == 200 and seconds < 2 else f"{name}: a regular request had {regular} after {seconds:.1f} s"
