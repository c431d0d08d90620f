"""Rows: clients and engines that send slowly, leave, or send more than anybody asked for."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from faults.load import CHAT, MODEL, Load, contexts_of, through
from faults.machines import HTTP, Index, ask, wait_for
from faults.world import Outcome, Row, World, outcome_of, running

CLIENT_TIMEOUT_S = 2.0
NUM_SLOW = 50
NUM_ABANDONED = 300
NUM_KEYS = 300
NUM_REPORTERS = 1_500
MAX_GROWTH_MB = 60.0
DRIP_S = 0.2


def _slow_clients(world: World) -> Outcome:
    """Heads and bodies in drops hold nobody else up, and end with 408."""
    load, ended = Load(), 0
    with (
        world.pair(client_timeout_s=CLIENT_TIMEOUT_S) as (index, _, _),
        load.running(through(index.url)),
        contextlib.ExitStack() as held,
    ):
        slow = [
            held.enter_context(socket.create_connection(("127.0.0.1", index.port), 60))
            for _ in range(NUM_SLOW)
        ]
        for number, connection in enumerate(slow):
            connection.sendall(_HALF_HEAD if number % 2 else _HALF_BODY)
        load.wait(20 * world.times)
        for connection in slow:
            with contextlib.suppress(OSError):
                ended += connection.recv(1 << 16)[:12] == b"HTTP/1.1 408"
    return outcome_of(load, NUM_SLOW, ended)


_HALF_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Drop: "
_HALF_BODY = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"


class _Dripping(BaseHTTPRequestHandler):
    """An engine whose answers come byte by byte, for ever."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(DRIP_S)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _dripping_engine() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _slow_engine(world: World) -> Outcome:
    """Clients of an engine that drips leave when they like; the other engine's go on."""
    load, engine = Load(), world.new_engine()
    index = Index((engine.url,))
    engine.index_url = index.url
    with _dripping_engine() as slow, running(index, engine):
        ask(f"{index.url}/engines", {"url": slow, "name": "slow"})
        held = [_begun(index, number) for number in range(4 * world.times)]
        for connection in held:
            connection.close()
        slow_state = lambda: index.engine_states()["slow"]["in_flight"] == 0  # noqa: E731
        is_free = wait_for(slow_state, 60)
        ask_delete(f"{index.url}/engines/slow")
        for _ in range(20):
            load.tell(through(index.url), load.rng)
    survived = len(held) * is_free
    return outcome_of(load, len(held), survived)


def ask_delete(url: str) -> None:
    """Send DELETE."""
    HTTP.open(urllib.request.Request(url, method="DELETE"), timeout=30).close()


def _begun(index: Index, number: int) -> socket.socket:
    """Send a request, and read nothing of its answer."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": f"{number}"}]})
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", index.port), 60)
    connection.sendall((head + body).encode())
    return connection


def _abandoned(world: World) -> Outcome:
    """Conversations that nobody goes on with, many of them left before their answer."""
    load, count = Load(), NUM_ABANDONED * world.times
    with world.pair() as (index, _, _):
        load.tell(through(index.url), load.rng)
        before = index.memory_mb
        for number in range(count):
            given = {"contexts": contexts_of(load.rng), "query": f"{number}?"}
            given["conversation"] = f"conversation {number}"
            body = json.dumps({"model": MODEL, "max_tokens": 2, "contextpilot": given})
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", index.port), 60) as connection:
                connection.sendall((head + body).encode())
                if number % 2:
                    connection.recv(100)
        is_free = wait_for(
            lambda: not any(one["in_flight"] for one in index.engine_states().values()), 60
        )
        growth = index.memory_mb - before
        load.tell(through(index.url), load.rng)
    good = count * (is_free and growth < MAX_GROWTH_MB)
    load.notes.append(f"{growth:.0f} MB more")
    return outcome_of(load, count, good)


def _flood_of_keys(world: World) -> Outcome:
    """Invented keys take memory up to a bound, and drive out nobody who is served."""
    load, count = Load(), NUM_KEYS * world.times
    with world.pair(max_namespaces=100) as (index, _, _):
        served = through(index.url, Authorization="Bearer served")
        for _ in range(20):
            load.tell(served, random.Random(1))
        before = index.memory_mb
        for number in range(count):
            load.tell(through(index.url, Authorization=f"Bearer {number}"), load.rng)
            if number % 20 == 0:
                load.tell(served, random.Random(1))
        growth = index.memory_mb - before
        is_known = _live_tokens(index, "served") > 0
    good = count * (is_known and growth < MAX_GROWTH_MB)
    load.notes.append(f"{growth:.0f} MB more")
    return outcome_of(load, count, good)


def _live_tokens(index: Index, key: str) -> int:
    """Return what is live of the request that this tenant sends again and again."""
    rng = random.Random(1)
    given = {"contexts": contexts_of(rng), "query": "again?"}
    body = {"model": MODEL, "max_tokens": 2, "contextpilot": given}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(index.url + CHAT, json.dumps(body).encode(), headers)
    with HTTP.open(request, timeout=60) as reply:
        return int(json.loads(reply.headers["X-ContextPilot-Result"])["live_tokens"])


def _flood_of_reporters(world: World) -> Outcome:
    """Invented engines in /sync, and counts that are none, change nothing for the real one."""
    load, refused = Load(), 0
    with world.single() as (index, _):
        load.tell(through(index.url), load.rng)
        before = index.memory_mb
        for number in range(NUM_REPORTERS):
            event = {
                "event": "cached",
                "request": f"r{number}",
                "tokens": 10 ** (400 * (number % 2)),
            }
            message = {"version": 1, "epoch": "a", "seq": 0, "events": [event]}
            try:
                ask(f"{index.url}/sync", {**message, "engine": f"invented {number}"})
            except urllib.error.HTTPError as error:
                refused += error.code == 422
        growth = index.memory_mb - before
        load.tell(through(index.url), load.rng)
        known = len(ask(f"{index.url}/health")["sync"])
    is_bounded = known <= 1025 and growth < MAX_GROWTH_MB
    good = NUM_REPORTERS * (is_bounded and refused == NUM_REPORTERS // 2)
    load.notes.append(f"{growth:.0f} MB more, {known} reporters known, {refused} refused")
    return outcome_of(load, NUM_REPORTERS, good)


ROWS = [
    Row("slow clients", "each is answered with 408; nobody else waits", _slow_clients),
    Row("an engine's answers drip", "a client that leaves frees its place", _slow_engine),
    Row("abandoned conversations", "places are freed, memory is bounded", _abandoned),
    Row("flood of keys", "memory is bounded; active tenants stay known", _flood_of_keys),
    Row(
        "flood of reporters",
        "no more than the limit are kept; wrong counts are refused",
        _flood_of_reporters,
    ),
]
