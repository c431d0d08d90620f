"""The first process of a container that holds engine and proxy, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BOTH = Path(__file__).resolve().parents[2] / "scripts" / "containers" / "both.py"
ENGINE = """
import http.server, json, os, signal, subprocess, sys
if "orphan" in sys.argv:
    subprocess.Popen(["sh", "-c", "sleep 0.1 & exec true"])
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(int(sys.argv[2]))
        told = {n: v for n, v in os.environ.items() if n.startswith("CONTEXTPILOT_")}
        body = json.dumps({"data": [{"id": "m"}], "told": told}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Container:
    """The two processes, as a container would run them."""

    def __init__(self, *engine: str, **environ: str) -> None:
        self.port, self.engine_port = free_port(), free_port()
        command = [sys.executable, "-c", ENGINE, str(self.engine_port), *engine]
        settings = {
            "CONTEXTPILOT_PORT": str(self.port),
            "CONTEXTPILOT_ENGINE": f"http://127.0.0.1:{self.engine_port}",
            "CONTEXTPILOT_KIND": "other",
        }
        self.process = subprocess.Popen(
            [sys.executable, BOTH, *command],
            env={**os.environ, **settings, **environ},
            stderr=subprocess.DEVNULL,
        )
        self.until(lambda: self.get(self.port, "/health")["status"] == "ok")

    def get(self, port: int, path: str, **headers: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert self.process.poll() is None, "the container ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def is_open(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Container]]:
    running: list[Container] = []

    def run(*engine: str, **environ: str) -> Container:
        running.append(Container(*engine, **environ))
        return running[-1]

    yield run
    for one in running:
        one.process.terminate()
        one.process.wait(60)


def test_both_serve_and_share_a_token(start: Callable[..., Container]) -> None:
    container = start("0", "orphan")
    told = container.get(container.port, "/v1/models")["told"]
    assert told["CONTEXTPILOT_INDEX_URL"] == f"http://127.0.0.1:{container.port}"
    token = told["CONTEXTPILOT_INDEX_TOKEN"]
    assert len(token) >= 32
    with pytest.raises(urllib.error.HTTPError, match="401"):
        container.get(container.port, "/stats")
    assert container.get(container.port, "/stats", Authorization=f"Bearer {token}")["requests"] == 0


def test_a_token_of_your_own_is_kept(start: Callable[..., Container]) -> None:
    container = start("0", CONTEXTPILOT_INDEX_TOKEN="mine")
    told = container.get(container.port, "/v1/models")["told"]
    assert told["CONTEXTPILOT_INDEX_TOKEN"] == "mine"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_both(number: int, start: Callable[..., Container]) -> None:
    container = start("0")
    container.process.send_signal(number)
    assert container.process.wait(60) == 0
    assert not container.is_open(container.port)
    assert not container.is_open(container.engine_port)


@pytest.mark.parametrize(("status", "told"), [("7", 7), ("0", 1)])
def test_an_engine_that_ends_ends_the_container(
    status: str, told: int, start: Callable[..., Container]
) -> None:
    container = start(status)
    with pytest.raises(OSError):  # noqa: PT011
        container.get(container.engine_port, "/end")
    assert container.process.wait(60) == told
    assert not container.is_open(container.port)


def test_an_engine_that_does_not_heed_is_killed(
    start: Callable[..., Container], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = tmp_path / "both.py"
    quick.write_text(BOTH.read_text("utf-8").replace("GRACE_S = 30", "GRACE_S = 1"))
    monkeypatch.setattr(sys.modules[__name__], "BOTH", quick)
    container = start("0", "deaf")
    container.process.terminate()
    assert container.process.wait(60) == 0
    assert not container.is_open(container.engine_port)


def test_what_cannot_start_is_named() -> None:
    for command, status, told in (
        ([], 2, "name the engine"),
        (["/nowhere/engine"], 127, "/nowhere"),
    ):
        run = subprocess.run(
            [sys.executable, BOTH, *command],
            env={**os.environ, "CONTEXTPILOT_PORT": str(free_port())},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert run.returncode == status
        assert told in run.stderr
        assert "Traceback" not in run.stderr.partition("contextpilot")[0]
