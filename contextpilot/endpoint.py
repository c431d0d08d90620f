"""A small HTTP server in the caller's process: the engines' events, and planning for others.

POST /sync    the event schema of `events`; replies {"status": "ok" | "resync", "version": n}
POST /evict   {"request_ids": [...]}; replies {"status": "ok", "known": n}
POST /plan    a job of `planning`; replies its plans
GET  /health  per engine: sync state and age of the last event
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any

from contextpilot.http.callers import AllowedCallers
from contextpilot.http.json_parts import MAX_PARTS, num_parts
from contextpilot.jobs import AnsweredJobs, decode_job, encode_plans, job_id_of
from contextpilot.planning import Planning
from contextpilot.sync.events import answer_message, parse_evict
from contextpilot.sync.receiver import SyncReceiver

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 << 20
MAX_BODIES_BYTES = 256 << 20
"""Of all bodies that are held at a time."""
MAX_CONNECTIONS = 64
"""Each has a thread; beyond them, the one that asked nothing for longest goes."""
_PIECE_BYTES = 1 << 20
_UNREAD_BYTES = 1 << 20
"""So much of a body that will not be used is read, so that the client reads the answer."""
_MAX_DIGITS = 20
_TIMEOUT_S = 30.0
_CALLERS = AllowedCallers((), "call it by its address, or by a name without a dot")
_NO_TOKEN = (
    "Authorization must be 'Bearer' and the index token: set CONTEXTPILOT_INDEX_TOKEN to what it "
    "is where ContextPilot(listen=...) runs"
)


def parse_address(listen: str) -> tuple[str, int]:
    """Return host and port of "host:port" or ":port" (loopback); port 0 takes a free one."""
    if not isinstance(listen, str):
        raise TypeError(f'listen must be a string "host:port", not {type(listen).__name__}')
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'listen must be "host:port", as "127.0.0.1:8765", not {listen!r}')
    return host.strip("[]") or "127.0.0.1", int(port)


class SyncEndpoint:
    """Serves a receiver on its own daemon threads until `close`.

    Args:
        listen: "host:port"; bind to loopback unless the network is trusted.
        token: if given, requests must carry it as `Authorization: Bearer`.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        receiver: SyncReceiver,
        planning: Planning,
        listen: str,
        token: str | None = None,
    ) -> None:
        address = parse_address(listen)
        try:
            self._server = _Server(address, _Handler)
        except OSError as error:
            why = f"listen: {listen} cannot be bound: {error.strerror or error}"
            raise OSError(error.errno, why) from None
        self._server.receiver = receiver
        self._server.planning = planning
        self._server.token = token
        self._server.jobs = AnsweredJobs()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="contextpilot-sync", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, which goes into CONTEXTPILOT_INDEX_URL on the engine's launch."""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def close(self) -> None:
        """Stop serving and free the address."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # more than five at once would be told to come again a second later
    receiver: SyncReceiver
    planning: Planning
    token: str | None
    jobs: AnsweredJobs

    def __init__(self, *arguments: Any) -> None:
        self._waiting: dict[socket.socket, None] = {}  # of the request after the last
        self._working: set[socket.socket] = set()
        self._held_bytes = 0
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._waiting[connection] = None
            if len(self._waiting) + len(self._working) > MAX_CONNECTIONS:
                longest = next(iter(self._waiting))
                del self._waiting[longest]
                _shut(longest)
        return connection, address

    @contextlib.contextmanager
    def work(self, connection: socket.socket) -> Iterator[None]:
        """Answer a request that has come; meanwhile its connection makes room for no other."""
        with self._lock:
            self._waiting.pop(connection, None)
            self._working.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(connection)
                self._waiting[connection] = None  # the last to go

    @contextlib.contextmanager
    def body(self, stream: BufferedIOBase, length: int) -> Iterator[bytes | None]:
        """Read a body, which counts as held until the block ends; gives None without room."""
        pieces: list[bytes] = []
        left, held = length, 0
        try:
            while left and (piece := stream.read(min(left, _PIECE_BYTES))):
                pieces.append(piece)
                left -= len(piece)
                held += len(piece)
                if self._hold(len(piece)) > MAX_BODIES_BYTES:
                    stream.read(min(left, _UNREAD_BYTES))
                    break
            yield None if left else b"".join(pieces)
        finally:
            self._hold(-held)

    def _hold(self, num_bytes: int) -> int:
        with self._lock:
            self._held_bytes += num_bytes
            return self._held_bytes

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        logger.debug("connection from %s ended early", client_address, exc_info=True)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in [*self._waiting, *self._working]:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    """Wake the thread that waits for another request, so that it ends."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        if not self._may_come_in():
            return
        with self.server.work(self.connection):
            if self.path != "/health":
                self._reply(404, {"error": f"no such path: {self.path}"})
            else:
                self._reply(200, {"status": "ok", "engines": self.server.receiver.engines()})

    def do_POST(self) -> None:
        length = self._length() if self._may_come_in() else None
        if length is None:
            return
        with self.server.body(self.rfile, length) as body:
            if body is None:
                self._refuse(503, "other requests fill the memory for bodies: retry later")
            elif num_parts(body) > MAX_PARTS:
                self._refuse(413, "the body's JSON has too many parts: send it in several requests")
            else:
                self._answer(body)

    def _answer(self, body: bytes) -> None:
        answer = {"/sync": self._sync, "/evict": self._evict, "/plan": self._plan}.get(self.path)
        if answer is None:
            self._reply(404, {"error": f"no such path: {self.path}"})
            return
        with self.server.work(self.connection):
            try:
                status, reply = 200, answer(json.loads(body))
            except (ValueError, TypeError, RecursionError) as error:
                status, reply = 400, {"error": str(error)}
            self._reply(status, reply)

    def _sync(self, content: Any) -> dict[str, Any]:
        return answer_message(self.server.receiver.take(content))

    def _evict(self, content: Any) -> dict[str, Any]:
        return {"status": "ok", "known": self.server.receiver.evict(parse_evict(content))}

    def _plan(self, content: Any) -> dict[str, Any]:
        job, job_id, jobs = decode_job(content), job_id_of(content), self.server.jobs
        if job_id is None:
            return encode_plans(self.server.planning.run(job))
        answer, is_first = jobs.claim(job_id, job)
        if not is_first:
            return answer.result(_TIMEOUT_S)
        return jobs.give(job_id, answer, lambda: encode_plans(self.server.planning.run(job)))

    def _may_come_in(self) -> bool:
        """Return whether no stranger's web page can have sent this; else an error was replied."""
        given = self.headers
        refusal = _CALLERS.refusal(
            self.command, given.get("Host", ""), given.get("Origin"), given.get("Content-Type")
        )
        has_body = self.command == "GET" and self._has_body()
        if refusal is not None or has_body:
            self._refuse(403 if refusal else 400, refusal or "GET takes no body")
        return refusal is None and not has_body

    def _has_body(self) -> bool:
        return self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers

    def _length(self) -> int | None:
        """Return how long the request's body is, or None when an error was replied."""
        lengths = self.headers.get_all("Content-Length") or [""]
        is_number = lengths[0].isdecimal() and len(set(lengths)) == 1
        if not is_number or "Transfer-Encoding" in self.headers:
            self._refuse(411, "Content-Length is unfit")
            return None
        if len(lengths[0]) > _MAX_DIGITS or int(lengths[0]) > MAX_BODY_BYTES:
            self._refuse(413, "Content-Length is unfit")
            return None
        length, token = int(lengths[0]), self.server.token
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            self.close_connection = length > _UNREAD_BYTES
            self.rfile.read(min(length, _UNREAD_BYTES))
            self._reply(401, {"error": _NO_TOKEN})
            return None
        return length

    def _refuse(self, status: int, why: str) -> None:
        """Reply an error to a request whose body is not read."""
        self.close_connection = True
        self._reply(status, {"error": why})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
