"""Serves the drawing page and its predictions to the browser of this machine only.

Any web site open in the browser can send requests to this server, and can map its own host name to our address (DNS
rebinding); therefore Host and Origin are checked. Each connection carries one request and is closed after ten seconds;
if there are too many connections, the oldest is closed. No files are read after the start, so there is no path
traversal.
"""

import base64
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import h11
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from jaxnets.errors import InputError

from ..cli.exit_codes import on_stop

if TYPE_CHECKING:
    from .predictor import Prediction

HOST = "127.0.0.1"
PAPER = 168
"""Side of a drawing in pixels. A request body is PAPER x PAPER bytes, 0 for paper and 255 for ink."""

BODY_LIMIT, HEADER_LIMIT = 64 << 10, 16 << 10
SECONDS, CONNECTIONS = 10, 128

PAGE = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "connection": "close",
}


class Guard:
    """Middleware that rejects requests which the page itself would not send."""

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        ends = (f":{port}", "") if port == 80 else (f":{port}",)  # browsers omit :80
        self.hosts = {name + end for name in (HOST, "localhost") for end in ends}
        self.origins = {f"http://{host}" for host in self.hosts} | {None}  # other clients than browsers send none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SAFE)
            await send(message)

        code = self.refusal(scope)
        await (self.app if code is None else Response(status_code=code))(scope, receive, send_safely)

    def refusal(self, scope: Scope) -> int | None:
        headers = Headers(scope=scope)
        # The parser's own limit applies to incomplete headers only.
        if sum(len(name) + len(value) for name, value in headers.raw) + len(scope["path"]) > HEADER_LIMIT:
            return 431
        if headers.get("host") not in self.hosts or headers.get("origin") not in self.origins:
            return 403
        return None


async def read(request: Request) -> np.ndarray:
    """Read the body of a request as a drawing, (PAPER, PAPER) uint8; raise HTTPException if it is not one.

    Somewhat more than the limit is read and dropped, so that a client receives the error instead of a reset connection.
    """
    if request.headers.get("content-type") != "application/octet-stream":
        raise HTTPException(415)
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= BODY_LIMIT:
            body += chunk
        elif size > 16 * BODY_LIMIT:
            break
    if size > BODY_LIMIT:
        raise HTTPException(413)
    if size != PAPER**2:
        raise HTTPException(400, f"a drawing is {PAPER} x {PAPER} bytes")
    return np.frombuffer(bytes(body), np.uint8).reshape(PAPER, PAPER)


def to_json(prediction: "Prediction") -> dict[str, Any]:
    """Return probabilities of ensemble, members, views and NumPy model, and the views as base64, for the page."""
    return {
        "ensemble": prediction.ensemble.tolist(),
        "members": prediction.members[:, 0].tolist(),
        "views": prediction.members.mean(0).tolist(),
        "scratch": prediction.scratch.tolist(),
        "images": [base64.b64encode(view.tobytes()).decode() for view in prediction.views],
    }


def make_app(predict: Callable[[np.ndarray], "Prediction"], about: dict[str, Any], *, port: int) -> Starlette:
    """Return the application: the page, GET /about and POST /predict. One prediction is computed at a time."""
    lock = anyio.Lock()

    async def respond(request: Request) -> Response:
        ink = await read(request)
        begin = time.perf_counter()
        try:
            async with lock:
                if await request.is_disconnected():  # while waiting for the lock
                    raise ClientDisconnect
                prediction = await anyio.to_thread.run_sync(predict, ink)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(to_json(prediction) | {"milliseconds": 1000 * (time.perf_counter() - begin)})

    def fixed(name: str) -> Callable[[Request], Response]:
        content = Path(__file__).with_name("page").joinpath(name).read_bytes()
        media_type = TYPES[name.rpartition(".")[2]]
        return lambda request: Response(content, media_type=media_type)

    routes = [Route(path, fixed(name)) for path, name in PAGE.items()]
    routes += [Route("/about", lambda request: JSONResponse(about)), Route("/predict", respond, methods=["POST"])]

    def ignore_disconnect(request: Request, error: Exception) -> Response:
        return Response(status_code=400)

    handlers: dict[Any, Any] = {ClientDisconnect: ignore_disconnect}
    return Starlette(routes=routes, middleware=[Middleware(Guard, port=port)], exception_handlers=handlers)


class OneRequest(H11Protocol):
    """A connection with a time limit. The parser itself waits indefinitely for the rest of a request."""

    def connection_made(self, transport: Any) -> None:
        self.end = self.loop.call_later(SECONDS, transport.abort)
        super().connection_made(transport)
        others: set[Any] = self.connections
        if len(others) > CONNECTIONS:
            min(others, key=lambda connection: connection.end.when()).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Respond to a malformed request and ignore the application's own response: h11 raises an error on a second
        response, and on a body in the response to HEAD."""
        if self.cycle:
            self.cycle.disconnected = True
        with suppress(h11.LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def shutdown(self) -> None:
        """Drop the connection when the server stops: uvicorn prints a traceback for each request that it cancels."""
        self.transport.abort()


def listen(port: int) -> socket.socket:
    """Open a socket on the loopback address; port 0 is any free port. Raises InputError if the port is in use."""
    try:
        if not 0 <= port < 1 << 16:
            raise OSError("expected 0 to 65535")
        return socket.create_server((HOST, port))
    except OSError as error:
        problem = f"{port} is not available ({error.strerror or error})"
        raise InputError("--port", problem, "give another port, or 0 for any free one") from error


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until a stop signal."""
    server = make_server(app)
    server.capture_signals = nullcontext  # type: ignore[assignment,method-assign]  # it would handle ignored signals too
    on_stop(server.handle_exit)
    server.run([listener])


def make_server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=OneRequest,
        ws="none",
        backlog=128,  # asyncio accepts this many at once, and prints a traceback if there are too many open files
        loop="asyncio",
        lifespan="off",
        h11_max_incomplete_event_size=HEADER_LIMIT,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error",
    )
    return uvicorn.Server(config)
