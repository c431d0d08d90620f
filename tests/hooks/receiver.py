"""A small index for tests: the wire schema over a real socket, with faults on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Keeps request -> tokens per engine, exactly as the schema says.

    `fault` is None, "hang", "500", "garbage", "not-json" or "drop" (closes without an answer).
    `version` is that of the schema; an index of version 1 refuses what is newer, and says nothing.
    """

    def __init__(self, port: int = 0) -> None:
        self.state: dict[str, dict[str, int]] = {}
        self.points: dict[str, list[list[int]]] = {}
        self.expected: dict[str, tuple[str, int]] = {}
        self.known: set[str] = set()
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.fault: str | None = None
        self.version = 3
        self.faults_seen = 0
        self.changed = threading.Condition()
        self._released = threading.Event()
        self._sockets: list[Any] = []
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def tokens(self, request: str) -> int:
        """Cached prompt tokens of `request`, over all engines."""
        return max((state.get(request, 0) for state in self.state.values()), default=0)

    def reusable(self, request: str, shared: int, dropped: int, block_size: int) -> int:
        """Tokens that a prompt reuses which is the same as `request`'s up to `shared` tokens."""
        cached = self.tokens(request)
        points = self.points.get(request) or [[block_size, cached]]
        whole = min(shared, cached) // block_size * block_size
        ends = [min(last, whole) for first, last in points if first <= min(whole, cached)]
        return max(0, max(ends, default=0) - dropped)

    def wait(self, condition: Any, timeout: float = 60.0) -> None:
        """Until `condition()` holds after some message."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), (
                f"not reached; {len(self.messages)} messages, last {self.messages[-1:]}"
            )

    def take(self, message: dict[str, Any]) -> str:
        """One message, according to the schema; returns the status."""
        with self.changed:
            self.messages.append(message)
            status = self._take(message)
            self.changed.notify_all()
            return status

    def _take(self, message: dict[str, Any]) -> str:
        engine, position = message["engine"], (message["epoch"], message["seq"])
        if message["snapshot"]:
            self.state[engine] = {}
            self.known.add(engine)
        else:
            expected = self.expected.get(engine)
            if expected is None or expected[0] != position[0] or position[1] > expected[1]:
                self.state.pop(engine, None)
                self.known.discard(engine)
                return "resync"
            if position[1] < expected[1]:
                return "ok"
        if engine not in self.known:
            return "resync"
        for event in message["events"]:
            self._apply(self.state[engine], event)
            if "request" in event:
                self.points[event["request"]] = event.get("points", [])
        self.expected[engine] = (position[0], position[1] + 1)
        return "ok"

    @staticmethod
    def _apply(state: dict[str, int], event: dict[str, Any]) -> None:
        if event["event"] == "cleared":
            state.clear()
        elif event["event"] == "unfollowed" or event["tokens"] == 0:
            state.pop(event["request"], None)
        else:
            state[event["request"]] = event["tokens"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news here."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            receiver.connections += 1
            receiver._sockets.append(self.connection)

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.fault is not None:
                receiver.faults_seen += 1
                self._fail(receiver.fault)
                return
            assert self.path.endswith("/sync"), self.path
            receiver.headers.append(dict(self.headers.items()))
            message = json.loads(body)
            if message["version"] > receiver.version:
                self._answer(400, b'{"error": "version must be 1"}')
                return
            answer: dict[str, Any] = {"status": receiver.take(message)}
            if receiver.version > 1:
                answer["version"] = receiver.version
            self._answer(200, json.dumps(answer).encode())

        def _fail(self, fault: str) -> None:
            if fault == "hang":
                receiver._released.wait(30)
                self.close_connection = True
            elif fault == "500":
                self._answer(500, b"broken")
            elif fault == "garbage":
                self.wfile.write(b"\x00\xffnot http at all\r\n\r\n" * 3)
                self.close_connection = True
            elif fault == "not-json":
                self._answer(200, b"<html>hello</html>")
            else:
                self.close_connection = True

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def eventually(condition: Any, timeout: float = 60.0) -> bool:
    """Poll `condition` until it is true or the time is over."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
