"""Stands between an engine's reporter and the index: cuts the way, loses, doubles and reorders."""

from __future__ import annotations

import http.client
import random
import threading
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OK = b'{"status": "ok", "version": 3}'
SHARE = 0.3
"""Of messages that something happens to."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """An engine that is killed reads no answer."""


class Postman:
    """Forwards POST requests to an index.

    Args:
        fault: "cut" refuses all, "lost", "doubled" and "reordered" happen to some; "" to none.

    Attributes:
        done: what was done, by fault.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.done: Counter[str] = Counter()
        self.index_url = ""
        self._held: bytes | None = None
        self._rng = random.Random(1)
        self._lock = threading.Lock()
        postman = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = postman.deliver(self.path, body)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Go."""
        self._server.shutdown()
        self._server.server_close()

    def deliver(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Return the answer to a message; None where its connection is cut."""
        with self._lock:
            if self.fault == "cut":
                self.done["cut"] += 1
                return None
            if not self.fault or self._rng.random() > SHARE:
                answer = self._forward(path, body)
                if self._held is not None:
                    self._forward(path, self._held)
                    self._held = None
                return answer
            self.done[self.fault] += 1
            if self.fault == "doubled":
                self._forward(path, body)
                return self._forward(path, body)
            if self.fault == "reordered":
                late, self._held = self._held, body
                if late is not None:
                    self._forward(path, late)
            return 200, OK

    def _forward(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        host = urllib.parse.urlsplit(self.index_url).netloc
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            return None
        finally:
            connection.close()
