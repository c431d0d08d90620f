"""Our server in this process, its event loop watched: how long was it away at most?

What counts is the processor time that the process used while the loop was away, on the loop or
elsewhere without giving way to it: time in which other processes ran says nothing of ours.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from loop_probe import Probe

from contextpilot.server.garbage import collect_seldom
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 120.0


class Watched:
    """A running server, and a task on its loop that wakes every millisecond."""

    def __init__(self, **settings: Any) -> None:
        self._server = make_server(Settings(port=0, kind="other", log_level="error", **settings))
        self.app: Any = self._server.config.app
        self._probe = Probe()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def service(self) -> Any:
        """The server's own service: to fill its index without a million requests."""
        return self.app.state.service

    def start(self) -> None:
        """Serve, as the command does: its collection of garbage, its switches between threads."""
        sys.setswitchinterval(0.001)
        collect_seldom(self.app.state.activity)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(20)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send a request and return the answer's body."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        connection.request(method, path, body, JSON if body is not None else {})
        with connection.getresponse() as response:
            content = response.read()
            assert response.status in (200, 503), (response.status, content[:300])
        connection.close()
        return content

    def post(self, path: str, content: Any) -> Any:
        """Send JSON and return what the answer says."""
        return json.loads(self.ask("POST", path, json.dumps(content).encode()))

    def stall_ms(self, method: str, path: str, body: bytes | None = None) -> float:
        """Send a request; return for how long the loop was away at most, until a second later."""
        self.ask("GET", "/stats?namespace=none")  # what a first request costs is not meant
        time.sleep(1)
        self._probe.read()
        self.ask(method, path, body)
        time.sleep(1)
        return self._probe.read()["stall_ms"]

    def stall_ms_of(self, action: Callable[[], None]) -> float:
        """Let something happen on the loop; return for how long it was away, until 5 s later."""
        self.ask("GET", "/stats?namespace=none")
        time.sleep(1)
        self._probe.read()
        self._loop.call_soon_threadsafe(action)
        time.sleep(5)
        return self._probe.read()["stall_ms"]

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.run_until_complete(
            asyncio.wait(
                [loop.create_task(self._server.serve()), loop.create_task(self._probe.run())],
                return_when=asyncio.FIRST_COMPLETED,
            )
        )


@contextmanager
def watched(**settings: Any) -> Iterator[Watched]:
    """Run a watched server."""
    server = Watched(**settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
