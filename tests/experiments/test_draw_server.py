import contextlib
import signal
import socket
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from experiments import draw
from experiments.demo import predictor, server
from experiments.demo.predictor import Calibration, Prediction
from experiments.draw import DrawOptions, main
from jaxnets.errors import InputError
from jaxnets.normalise import normalise
from tests.faults.attacks import ATTACKS, BINARY, DRAWING, get, is_open, post, strike

PORT = 8028
ABOUT = {"accuracies": {"resnet": 0.997, "scratch": 0.9818}, "threshold": 0.9}


def predict(ink):
    """A predictor with two members, three views and uniform probabilities."""
    return Prediction(np.stack(3 * [normalise(ink)]), np.full((2, 3, 10), 0.1), np.full(10, 0.1), np.full(10, 0.1))


@pytest.fixture
def client():
    app = server.make_app(predict, ABOUT, port=PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)


@pytest.fixture
def send(client):
    """send(body, **headers) -> the response to POST /predict."""

    def post_drawing(body=DRAWING, **headers):
        return client.post("/predict", content=body, headers={"content-type": "application/octet-stream"} | headers)

    return post_drawing


@contextlib.contextmanager
def serving(predict):
    """Yield the port of a server that runs inside the block."""
    with server.listen(0) as listener:
        number = listener.getsockname()[1]
        running = server.make_server(server.make_app(predict, ABOUT, port=number))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            yield number
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture
def port(monkeypatch):
    """The port of a server that closes connections after half a second, with at most five of them."""
    monkeypatch.setattr(server, "SECONDS", 0.5)
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with serving(predict) as number:
        yield number


def test_a_drawing_gets_predictions_of_every_model(send):
    response = send(origin=f"http://127.0.0.1:{PORT}")
    assert response.status_code == 200
    content = response.json()
    assert np.shape(content["ensemble"]) == np.shape(content["scratch"]) == (10,)
    assert (np.shape(content["members"]), np.shape(content["views"])) == ((2, 10), (3, 10))
    assert len(content["images"]) == 3
    assert content["milliseconds"] > 0


@pytest.mark.parametrize("path", [*server.PAGE, "/about"])
def test_the_page_has_no_external_resources(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert "http" not in response.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_port_80_may_be_omitted(name):
    app = server.make_app(predict, ABOUT, port=80)
    client = TestClient(app, base_url=f"http://{name}")
    headers = {"content-type": "application/octet-stream", "origin": f"http://{name}"}
    assert client.post("/predict", content=DRAWING, headers=headers).status_code == 200
    assert client.get("/", headers={"host": f"{name}:80"}).status_code == 200
    assert client.get("/", headers={"host": f"{name}.nip.io"}).status_code == 403


def test_headers_are_limited(client):
    assert client.get("/", headers={"x": 16_000 * "a"}).status_code == 200
    assert client.get("/", headers={"x": 17_000 * "a"}).status_code == 431
    assert client.get("/" + 17_000 * "a").status_code == 431


def test_an_internal_error_shows_no_details(monkeypatch, send):
    monkeypatch.setattr(server, "to_json", lambda prediction: {"nan": float("nan")})
    response = send()
    assert (response.status_code, response.text) == (500, "Internal Server Error")


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_requests_are_rejected_or_closed(port, name, caplog):
    attack, allowed = ATTACKS[name]
    assert strike(port, attack, patience=60) in allowed
    assert strike(port, post(), patience=60) == 200
    assert caplog.messages == []


def test_idle_connections_do_not_block_others(port, monkeypatch):
    monkeypatch.setattr(server, "SECONDS", 600)
    with contextlib.ExitStack() as silent:
        opened = [silent.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(20)]
        assert strike(port, post(), patience=60) == 200
        with contextlib.suppress(ConnectionError):
            assert opened[0].recv(1) == b""  # the oldest is closed, not the newest
        for connection in opened[-3:]:
            connection.settimeout(0)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_the_server_stops_on_signals_that_are_not_ignored(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    seen = []

    async def begin(running, sockets):
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(number)
            seen.append(running.should_exit)

    monkeypatch.setattr(server.uvicorn.Server, "startup", begin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    try:
        server.serve(server.make_app(predict, ABOUT, port=PORT), None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == [False, True]


def test_only_the_loopback_address_is_bound(port):
    assert is_open(port, "127.0.0.1")
    assert not is_open(port, "127.0.0.2")


def test_an_unavailable_port_is_reported():
    with (
        server.listen(0) as taken,
        pytest.raises(InputError, match=r"--port: \d+ is not available .* Fix: give another"),
    ):
        server.listen(taken.getsockname()[1])
    with pytest.raises(InputError, match="--port: 70000"):
        server.listen(70_000)


def test_a_missing_extra_is_reported(monkeypatch):
    monkeypatch.setattr(draw, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"starlette is not installed. Fix: pip install -e '.\[demo\]'"):
        main(DrawOptions())


def test_a_text_browser_does_not_block_the_server(monkeypatch, tmp_path):
    script = tmp_path / "browser.py"
    script.write_text(
        "import contextlib, socket, sys, urllib.parse\n"
        "with contextlib.suppress(OSError):\n"
        "    page = socket.create_connection(('127.0.0.1', urllib.parse.urlsplit(sys.argv[1]).port), timeout=10)\n"
        "    page.sendall(page.recv(4))\n"
    )
    monkeypatch.setenv("BROWSER", f"{sys.executable} {script} %s")

    def serve(app, listener):
        listener.settimeout(60)
        with listener.accept()[0] as browser:
            browser.sendall(b"page")
            assert browser.recv(4) == b"page"

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(
        predictor,
        "load_all",
        lambda: SimpleNamespace(names=[], milliseconds=lambda count: [1.0], calibration=Calibration()),
    )
    monkeypatch.setattr(draw, "start_jax", lambda options: None)
    main(DrawOptions(port=0))


def test_requests_of_closed_connections_are_skipped(monkeypatch):
    calls, go_on = [], threading.Event()

    def slow(ink):
        calls.append(go_on.wait(60))
        return predict(ink)

    with serving(slow) as number:
        request = post().replace(b"PORT", str(number).encode())
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", number)) as impatient:
                impatient.sendall(request)
        with socket.create_connection(("127.0.0.1", number), timeout=60) as patient:
            patient.sendall(request)
            go_on.set()
            assert patient.recv(12) == b"HTTP/1.1 200"
    assert len(calls) <= 3


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "example.com"])
def test_malformed_bodies_print_nothing(port, caplog, host, method):
    request = get("/predict", BINARY, "Transfer-Encoding: chunked", host=host, method=method) + b"zz\r\n"
    assert strike(port, request, patience=60) == 400
    assert strike(port, post(), patience=60) == 200
    assert caplog.messages == []


def test_stopping_while_waiting_for_a_body_prints_nothing(caplog):
    with socket.socket() as connection, serving(predict) as number:
        connection.settimeout(60)
        connection.connect(("127.0.0.1", number))
        connection.sendall(post("Expect: 100-continue", "Content-Length: 1", body=b"").replace(b"PORT", b"%d" % number))
        assert connection.recv(12) == b"HTTP/1.1 100"  # the application waits now
    assert caplog.messages == []
