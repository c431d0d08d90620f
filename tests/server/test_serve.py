"""`contextpilot serve` as a process: starts, plans for libraries, stops when told."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Client, Scripted, free_port, serving, wait_until

from contextpilot import ContextPilot

BLOCKS = [f"block {name} " * 90 for name in "abcd"]


@contextmanager
def command(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "contextpilot", "serve", "--port", str(port), *arguments],
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    client = Client(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        try:
            return client.get("/health").status in (200, 503)
        except ConnectionError:
            return False

    with process:
        try:
            wait_until(answers, 60)
            yield process, client
        finally:
            process.kill()


@pytest.mark.slow
def test_it_serves_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('log_format = "json"\n')
    upstream = Scripted()
    with (
        serving(upstream) as url,
        command("--config", str(file), CONTEXTPILOT_ENGINE=url) as (process, client),
    ):
        assert client.get("/v1/models").json() == {"ok": True}
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0
        for line in log.splitlines():
            assert json.loads(line)["level"] in ("info", "warning")


@pytest.mark.slow
def test_a_running_request_ends_before_the_stop() -> None:
    async def slow(seen: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await asyncio.sleep(1)
        await send({"type": "http.response.body", "body": b"last"})

    upstream = Scripted(answer=slow)
    found: list[bytes] = []
    with serving(upstream) as url, command("--engine", url) as (process, client):
        ask = threading.Thread(target=lambda: found.append(client.get("/v1/models").body))
        ask.start()
        wait_until(lambda: bool(upstream.seen))
        process.send_signal(signal.SIGTERM)
        ask.join(30)
        assert found == [b"first last"]
        process.communicate(timeout=120)
        assert process.returncode == 0


@pytest.mark.slow
def test_what_runs_for_too_long_is_cut_off_without_a_traceback() -> None:
    async def endless(seen: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await asyncio.sleep(60)

    upstream = Scripted(answer=endless)
    arguments = ("--shutdown-timeout-s", "1")
    with serving(upstream) as url, command("--engine", url, *arguments) as (process, client):
        with client.open("GET", "/v1/models") as answer:
            assert answer.read1(100) == b"first "
            process.send_signal(signal.SIGTERM)
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        _, log = process.communicate(timeout=120)
        assert process.returncode == 0
        assert "Traceback" not in log


@pytest.mark.slow
def test_libraries_share_its_index() -> None:
    with (
        command() as (_, client),
        ContextPilot(index_url=client.url) as first,
        ContextPilot(index_url=client.url) as second,
    ):
        first.optimize(BLOCKS, "why?")
        messages = second.optimize(BLOCKS[::-1], "how?")
        assert messages.order == (3, 2, 1, 0)
        assert second.explain(messages).matched_blocks == len(BLOCKS)
        assert client.get(f"/explain/{messages.request_id}").json()["matched_blocks"] == 4
        batch, order = second.optimize_batch([BLOCKS, BLOCKS[:2]], ["a", "b"])
        assert sorted(order) == [0, 1]
        assert len(batch) == 2


@pytest.mark.slow
def test_wrong_settings_are_one_line_and_status_one() -> None:
    for arguments in (["--engine", "localhost:1"], ["--config", "/nonexistent.toml"]):
        done = subprocess.run(
            [sys.executable, "-m", "contextpilot", "serve", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("contextpilot serve: ")


@pytest.mark.slow
def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "contextpilot", "serve", "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
