"""Real servers in threads, a plain client, and an upstream that does what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Answer = Callable[["Seen", Any], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """A request as the upstream received it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once the other side closed the connection before the answer's end."""

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


def free_port() -> int:
    """Return a port of the loopback address that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class Reply:
    """An answer as the client received it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        """What the one header of ours says."""
        return json.loads(self.headers["x-contextpilot-result"])


async def send_json(send: Any, content: Any, status: int = 200) -> None:
    """Answer with JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def answers_after(may_end: threading.Event) -> Answer:
    """Return the answer of an engine that is busy until it may end."""

    async def answer(seen: Seen, send: Any) -> None:
        while not may_end.is_set():
            await asyncio.sleep(0.01)
        await send_json(send, {"ok": True})

    return answer


async def _accept(seen: Seen, send: Any) -> None:
    await send_json(send, {"ok": True})


@dataclass
class Scripted:
    """An upstream for faults and shapes: records every request, answers by `answer`.

    Attributes:
        asides: what paths outside /v1 answer; all others are empty objects.
    """

    answer: Answer = _accept
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    asides: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        if not target.startswith("/v1"):  # a health check
            await send_json(send, self.asides.get(target, {}))
            return
        seen = Seen(scope["method"], target, headers, body)
        self.seen.append(seen)
        answer = asyncio.ensure_future(self.answer(seen, send))
        watch = asyncio.ensure_future(receive())
        await asyncio.wait((answer, watch), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            seen.gone.set()
            answer.cancel()
        watch.cancel()
        await asyncio.gather(answer, watch, return_exceptions=True)

    @property
    def last(self) -> Seen:
        """The newest request."""
        return self.seen[-1]


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Run an ASGI application, or a uvicorn server, on a free port; yields its URL."""
    if isinstance(app, uvicorn.Server):
        server = app
    else:
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Client:
    """A plain HTTP client; one connection per request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._host = urllib.parse.urlsplit(url).netloc

    @contextlib.contextmanager
    def open(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; the reply's body is not read yet."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection(self._host, timeout=120)) as connection:
            connection.request(method, path, body, named)
            with connection.getresponse() as response:
                yield response

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request and read the reply."""
        with self.open(method, path, body, **headers) as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())

    def post(self, path: str, content: Any, **headers: str) -> Reply:
        """POST JSON."""
        named = {"Content_Type": "application/json", **headers}
        return self.request("POST", path, json.dumps(content).encode(), **named)

    def get(self, path: str, **headers: str) -> Reply:
        """GET."""
        return self.request("GET", path, **headers)


Start = Callable[..., Client]
"""Runs our server with these settings, and returns a client of it."""
