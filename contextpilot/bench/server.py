"""Starts a `contextpilot serve` before the engine, for the arms that go through it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from contextpilot.errors import CommandError
from contextpilot.server.settings import ENVIRONMENT_PREFIX

_START_S = 60.0
_STOP_S = 15.0
_ASK_S = 2.0


@contextlib.contextmanager
def serving(engine_url: str, kind: str, listen: str | None) -> Iterator[str]:
    """Run the server until the block ends; yields its URL.

    Args:
        listen: "host:port" to bind, for engines that report there; None takes a free port.

    Raises:
        CommandError: it does not start; its last words are in the text.
    """
    host, port = _place(listen)
    command = [sys.executable, "-m", "contextpilot", "serve", "--engine", engine_url]
    command += ["--kind", kind, "--host", host, "--port", str(port), "--log-level", "error"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    url = f"http://{host}:{port}"
    try:
        _wait(process, url)
        yield url
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _place(listen: str | None) -> tuple[str, int]:
    if listen is not None:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit():
            raise CommandError(f"--listen {listen}: write host:port, for example 127.0.0.1:8765")
        return host, int(port)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    from contextpilot.http.blocking import BlockingHttp  # requests takes a while to import

    deadline = time.monotonic() + _START_S
    http = BlockingHttp(url, {}, _ASK_S)
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), contextlib.closing(http):
            if http.call("GET", "/health", None, _ASK_S).status == 200:
                return
        time.sleep(0.1)
    if process.poll() is None:
        raise CommandError(f"contextpilot serve was not ready in time at {url}")
    said = (process.communicate()[1] or b"").decode(errors="replace").strip()
    raise CommandError(f"contextpilot serve ended: {said.splitlines()[-1:] or 'no reason given'}")
