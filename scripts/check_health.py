"""How long /health waits while the server works on a megabyte of the worst text known.

    python scripts/check_health.py [--size 1048576] [--repeats 3]

A real `contextpilot serve` before an engine that answers at once. Each text is sent `--repeats`
times while another connection asks for /health every few milliseconds; printed is the slowest
answer of the best repeat, by the clock and in processor time that the server used meanwhile (where
other processes have the machine, the clock tells of them), beside that of an idle server. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz_dedup_time import Case, messages_of
from machine import machine_line

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "prompt"))

from hard_texts import HARD

CHAT = "/v1/chat/completions"
EVERY_S = 0.004
HARD_TEXTS = (
    *("a group in each message", "empty lines", "numbers that begin again", "one list of numbers"),
    *("many cues", "rows of a search", "escapes", "rules"),
)
HARD_REPEATS = (("one of two",), ("brackets",), ("long",))


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers everything at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}}]})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def requests(size: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield what is sent: its name, path and body."""
    for name in HARD_TEXTS:
        yield name, CHAT, {"model": "m", "messages": HARD[name](size)}
    for lines in HARD_REPEATS:
        messages = messages_of(Case(lines, 1, "many", 7), size)
        yield f"repeats: {lines[0]}", CHAT, {"model": "m", "messages": messages}
    tiny = [f"block {at} of many, and of a few words" for at in range(size // 42)]
    yield "/reorder, tiny blocks", "/reorder", {"contexts": tiny}
    known = {"contexts": tiny, "query": "why?", "conversation_id": "tiny"}
    yield "/optimize, tiny blocks", "/optimize", known
    known = {"contexts": tiny, "conversation_id": "tiny"}
    yield "/deduplicate, tiny blocks", "/deduplicate", known


def fresh(content: dict[str, Any], number: int) -> bytes:
    """Return a body whose texts the server has not seen yet: it remembers what it found in them."""
    if "messages" in content:
        own = [{**one, "content": f"{number}\n{one['content']}"} for one in content["messages"]]
        content = {**content, "messages": own}
    return json.dumps(content).encode()


class Watch(threading.Thread):
    """Asks for /health again and again; `waits` are the seconds of each answer, used and in all."""

    def __init__(self, port: int, pid: int) -> None:
        super().__init__(daemon=True)
        self.waits: list[tuple[float, float]] = []
        self.is_over = threading.Event()
        self._port = port
        self._pid = pid

    def run(self) -> None:
        """Ask until it is over."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self.is_over.wait(EVERY_S):
            began, used = time.perf_counter(), used_s(self._pid)
            connection.request("GET", "/health")
            connection.getresponse().read()
            self.waits.append((used_s(self._pid) - used, time.perf_counter() - began))


def used_s(pid: int) -> float:
    """Return the processor time that the threads of a process have used."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def watched(port: int, pid: int, path: str, body: bytes | None) -> tuple[float, float, float]:
    """Return the slowest answer of /health while a request runs, and how long that took."""
    watch = Watch(port, pid)
    watch.start()
    time.sleep(0.1)
    began = time.perf_counter()
    if body is None:
        time.sleep(0.5)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}: {content[:200]!r}")
    took = time.perf_counter() - began
    watch.is_over.set()
    watch.join()
    return max(used for used, _ in watch.waits), max(wait for _, wait in watch.waits), took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1 << 20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(Path(sys.executable).parent / "contextpilot"), "serve", "--port", str(port)]
    command += ["--engine", f"http://127.0.0.1:{engine.server_port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        print(f"{machine_line()}\n")
        print("| request | took ms | /health at most ms | of which the server computed |")
        print("|---|---|---|---|")
        for name, path, content in [("none", "", {}), *requests(options.size)]:
            tries = [
                watched(port, server.pid, path, fresh(content, number) if content else None)
                for number in range(options.repeats)
            ]
            used, wait, took = (1e3 * min(column) for column in zip(*tries, strict=True))
            print(f"| {name} | {took:.0f} | {wait:.0f} | {used:.0f} |", flush=True)
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not start")


if __name__ == "__main__":
    import plainly

    plainly.run(main)
