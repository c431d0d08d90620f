"""An HTTP server that answers as a test says, for faults that real servers do not show."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]
"""Status and content: JSON, or bytes as they are."""
Script = dict[str, "Reply | Callable[[Any], Reply]"]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        self.server.seen.append((self.path, body))
        reply = self.server.script.get(self.path, (404, {}))
        status, content = reply(body) if callable(reply) else reply
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    script: Script
    seen: list[tuple[str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[_Server]:
    """Serve a script by path; yields the server, with its `url` and what it has `seen`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script, server.seen = script, []
    with in_thread(server):
        yield server


@contextlib.contextmanager
def in_thread(server: ThreadingHTTPServer) -> Iterator[None]:
    """Run a server in a thread of its own until the block ends, then close it."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
