import contextlib
import json
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
from experiments.demo.predictor import Answer
from experiments.draw import DrawOptions, main
from jaxnets.errors import InputError
from jaxnets.normalise import normalise
from tests.faults.attacks import ATTACKS, BINARY, CUT, DRAWING, get, is_open, post, strike

PORT = 8028
ABOUT = {"resnet": 0.997, "scratch": 0.9818}


def predict(ink):
    """As a predictor with two members and three views that are sure of nothing."""
    return Answer(np.stack(3 * [normalise(ink)]), np.full((2, 3, 10), 0.1), np.full(10, 0.1))


@pytest.fixture
def client():
    app = server.make_app(predict, ABOUT, port=PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)


@pytest.fixture
def ask(client):
    """ask(body, **headers) -> the answer to a drawing."""

    def send(body=DRAWING, **headers):
        return client.post("/predict", content=body, headers={"content-type": "application/octet-stream"} | headers)

    return send


@contextlib.contextmanager
def serving(predict):
    """Yields the port of a server that ends with the block."""
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
    """Of a server that cuts connections off after half a second, of five at most."""
    monkeypatch.setattr(server, "SECONDS", 0.5)
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with serving(predict) as number:
        yield number


def test_a_drawing_is_answered_by_every_network(ask):
    answer = ask(origin=f"http://127.0.0.1:{PORT}")
    assert answer.status_code == 200
    content = answer.json()
    assert np.shape(content["ensemble"]) == np.shape(content["scratch"]) == (10,)
    assert (np.shape(content["members"]), np.shape(content["views"])) == ((2, 10), (3, 10))
    assert len(content["images"]) == 3
    assert content["milliseconds"] > 0


@pytest.mark.parametrize("path", [*server.PAGE, "/about"])
def test_the_page_needs_nothing_from_elsewhere(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("host", ["example.com", f"example.com:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
def test_a_foreign_host_is_refused(client, host):
    for path in ("/", "/about", "/nowhere"):
        assert client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_browsers_omit_port_80(name):
    app = server.make_app(predict, ABOUT, port=80)
    client = TestClient(app, base_url=f"http://{name}")
    headers = {"content-type": "application/octet-stream", "origin": f"http://{name}"}
    assert client.post("/predict", content=DRAWING, headers=headers).status_code == 200
    assert client.get("/", headers={"host": f"{name}:80"}).status_code == 200
    assert client.get("/", headers={"host": f"{name}.nip.io"}).status_code == 403


@pytest.mark.parametrize("origin", ["null", "http://example.com", f"https://127.0.0.1:{PORT}", "http://127.0.0.1", ""])
def test_a_foreign_origin_is_refused(ask, origin):
    assert ask(origin=origin).status_code == 403


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (DRAWING[:-1], 400),
        (DRAWING + b"x", 400),
        (bytes(len(DRAWING)), 400),
        (bytes(64 << 10), 400),
        (bytes((64 << 10) + 1), 413),
        (bytes(3 << 20), 413),
    ],
)
def test_only_a_drawing_of_the_right_size_is_read(ask, body, code):
    answer = ask(body)
    assert answer.status_code == code
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("body", [b"{", b'{"pixels": [NaN]}', json.dumps(list(DRAWING)).encode()])
def test_other_kinds_of_body_are_refused(ask, body):
    assert ask(body, **{"content-type": "application/json"}).status_code == 415
    assert ask(body).status_code in (400, 413)


def test_headers_are_limited(client):
    assert client.get("/", headers={"x": 16_000 * "a"}).status_code == 200
    assert client.get("/", headers={"x": 17_000 * "a"}).status_code == 431
    assert client.get("/" + 17_000 * "a").status_code == 431


def test_a_fault_of_ours_is_not_shown(monkeypatch, ask):
    monkeypatch.setattr(server, "to_json", lambda answer: {"nan": float("nan")})
    answer = ask()
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_requests_are_refused_or_cut_off(port, name, caplog):
    attack, allowed = ATTACKS[name]
    assert strike(port, attack, patience=60) in allowed
    assert strike(port, post(), patience=60) == 200
    assert caplog.messages == []


def test_silent_connections_keep_nobody_out(port, monkeypatch):
    monkeypatch.setattr(server, "SECONDS", 600)
    with contextlib.ExitStack() as silent:
        opened = [silent.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(20)]
        assert strike(port, post(), patience=60) == 200
        with contextlib.suppress(ConnectionError):
            assert opened[0].recv(1) == b""  # the oldest is cut off, not the newest
        for connection in opened[-3:]:
            connection.settimeout(0)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_serving_ends_with_a_signal_that_is_not_ignored(monkeypatch):
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


def test_no_other_address_is_bound(port):
    assert is_open(port, "127.0.0.1")
    assert not is_open(port, "127.0.0.2")


def test_a_port_that_cannot_be_had_is_named():
    with server.listen(0) as taken, pytest.raises(InputError, match=r"--port: \d+ cannot be had .* Fix: give another"):
        server.listen(taken.getsockname()[1])
    with pytest.raises(InputError, match="--port: 70000"):
        server.listen(70_000)


def test_a_missing_extra_has_its_remedy(monkeypatch):
    monkeypatch.setattr(draw, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"starlette is not installed. Fix: pip install -e '.\[demo\]'"):
        main(DrawOptions())


def test_the_page_is_served_while_a_text_browser_is_open(monkeypatch, tmp_path):
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
    monkeypatch.setattr(predictor, "load_all", lambda: SimpleNamespace(names=[], milliseconds=lambda count: [1.0]))
    monkeypatch.setattr(draw, "start_jax", lambda options: None)
    main(DrawOptions(port=0))


def test_attacks_are_of_both_kinds():
    assert sum(CUT in allowed for _, allowed in ATTACKS.values()) >= 5
    assert len(ATTACKS) >= 31


def test_nobody_waits_for_those_who_have_hung_up(monkeypatch):
    asked, go_on = [], threading.Event()

    def slow(ink):
        asked.append(go_on.wait(60))
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
    assert len(asked) <= 3


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "example.com"])
def test_malformed_bodies_print_nothing(port, caplog, host, method):
    request = get("/predict", BINARY, "Transfer-Encoding: chunked", host=host, method=method) + b"zz\r\n"
    assert strike(port, request, patience=60) == 400
    assert strike(port, post(), patience=60) == 200
    assert caplog.messages == []


def test_a_server_that_ends_while_it_waits_for_a_body_prints_nothing(caplog):
    with socket.socket() as connection, serving(predict) as number:
        connection.settimeout(60)
        connection.connect(("127.0.0.1", number))
        connection.sendall(post("Expect: 100-continue", "Content-Length: 1", body=b"").replace(b"PORT", b"%d" % number))
        assert connection.recv(12) == b"HTTP/1.1 100"  # the application waits now
    assert caplog.messages == []
