"""For how long the server's event loop is away at most."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from contextpilot.block import content_key
from contextpilot.explain import Explanation
from contextpilot.server.dashboard.tree import name_of
from contextpilot.server.observe.records import Record
from contextpilot.sync.sources.base import PromptCounts

from .measurement import Measurement
from .watched import Watched, watched

ENGINE = "http://127.0.0.1:9"


def key(number: int) -> bytes:
    """Return a block's key."""
    return content_key(str(number))


def fill(
    server: Watched, count: int, length: int, *, names: int = 0, spaces: int = 1, engine: int = 0
) -> list[str]:
    """Let an engine's index hold `count` paths of `length` blocks; return request names."""
    namespaces = server.service.pool.engines[engine].namespaces
    requests = [f"cp-{number:024d}" for number in range(names)]
    for number in range(count):
        space = namespaces.get(f"tenant {number % spaces}")
        keys = [key(number * length + step) for step in range(length)]
        request = requests[number] if number < names else None
        ends = [100 * (step + 1) for step in range(length)]
        with space.lock:
            space.planner.index.insert(keys, request, ends, 100 * length)
        if request is not None:
            namespaces.own(request, space)
    return requests


def tree_of(server: Watched) -> str:
    """Return where the dashboard shows the tree of the one namespace."""
    feed = json.loads(server.ask("GET", "/dashboard/feed"))
    ((engine, (space,)),) = feed["indexes"].items()
    return f"/dashboard/tree?engine={engine}&namespace={space['namespace']}"


def message(epoch: str, seq: int, events: list[dict[str, Any]], kind: str = "vllm") -> bytes:
    """Return an engine's message."""
    content = {"version": 1, "engine": "e", "epoch": epoch, "seq": seq, "kind": kind}
    return json.dumps({**content, "events": events}).encode()


def cached(requests: list[str], tokens: int) -> list[dict[str, Any]]:
    """Return events that tell of requests."""
    return [{"event": "cached", "request": name, "tokens": tokens} for name in requests]


def dashboard_root() -> float:
    """The dashboard's tree."""
    with watched(engine=(ENGINE,)) as server:
        fill(server, 200_000, 2)
        return server.stall_ms("GET", tree_of(server))


def dashboard_path() -> float:
    """The dashboard's tree, far down: a conversation of 2,000 messages that branches everywhere."""
    with watched(engine=(ENGINE,)) as server:
        space = server.service.pool.engines[0].namespaces.get("n")
        keys = [key(number) for number in range(2_001)]
        for length in range(2_001):
            space.planner.index.insert([*keys[:length], key(-1 - length)])
        space.planner.index.insert(keys)
        path = ".".join(name_of(one) for one in keys[:2_000])
        return server.stall_ms("GET", f"{tree_of(server)}&path={path}")


def restart() -> float:
    """A new epoch of an engine that holds a million blocks."""
    with watched(engine=(ENGINE,)) as server:
        requests = fill(server, 200_000, 5, names=50_000)
        server.ask("POST", "/sync", message("one", 0, cached(requests, 500)))
        time.sleep(1)
        return server.stall_ms("POST", "/sync", message("two", 0, []))


def restart_of_many_tenants() -> float:
    """The same, of a thousand namespaces."""
    with watched(engine=(ENGINE,)) as server:
        fill(server, 200_000, 5, spaces=1_000)
        server.ask("POST", "/sync", message("one", 0, []))
        return server.stall_ms("POST", "/sync", message("two", 0, []))


def reset() -> float:
    """Everything is forgotten."""
    with watched(engine=(ENGINE,)) as server:
        fill(server, 200_000, 5, names=50_000)
        return server.stall_ms("POST", "/reset", b"{}")


def list_requests() -> float:
    """All that is remembered of requests."""
    with watched(engine=(ENGINE,)) as server:
        for number in range(10_000):
            told = Explanation(f"cp-{number}", 3, 300, 2000, "a block", "new block", 900)
            server.service.records.add(Record("chat", told, 0))
        return server.stall_ms("GET", "/requests?limit=10000")


def large_message() -> float:
    """A message of 4 MB about requests that are known."""
    with watched(engine=(ENGINE,)) as server:
        requests = fill(server, 50_000, 4, names=50_000)
        events = [event for _ in (0, 1) for event in cached(requests, 400)][:60_000]
        return server.stall_ms("POST", "/sync", message("one", 0, events))


def long_history() -> float:
    """100 blocks against a conversation of 2 MB that holds none of them."""
    with watched() as server:
        blocks = [
            f"Document {number}: " + f"fact {number} is known. " * 40 for number in range(100)
        ]
        words = " ".join(f"word{number}" for number in range(250_000))[: 2 << 20]
        history = [{"role": "user", "content": words}]
        body = json.dumps({"contexts": blocks, "query": "?", "history": history}).encode()
        return server.stall_ms("POST", "/optimize", body)


def slot_event() -> float:
    """One event of a llama-server while 256 answers wait for theirs."""
    with watched(engine=(ENGINE,)) as server:
        requests = fill(server, 300, 4, names=300)
        events: list[dict[str, Any]] = []
        for number in range(2_048):
            slot = {"event": "slot", "slot": number % 8, "keep": 0, "tokens": 100 + number}
            events.append(slot)
        server.ask("POST", "/sync", message("one", 0, events, "llamacpp"))
        for name in requests[:256]:
            answer = PromptCounts(name, None, cached=0, prompt=90_000, generated=4)
            server.service.pool.receiver.answered("e", answer)
        time.sleep(1.5)
        return server.stall_ms("POST", "/sync", message("one", 1, events[:1], "llamacpp"))


def of_many(path: str) -> float:
    """What 64 engines with a thousand namespaces each tell of themselves."""
    engines = tuple(f"http://127.0.0.1:{port}" for port in range(9_000, 9_064))
    with watched(engine=engines) as server:
        for engine in server.service.pool.engines:
            for number in range(1_000):
                engine.namespaces.get(f"tenant {number}")
        while any(one.up is not False for one in server.service.pool.engines):
            time.sleep(0.1)  # that all are found dead at once is not what is measured
        time.sleep(1)
        return server.stall_ms("GET", path)


def nothing() -> float:
    """A request that costs nothing: what other work on the machine adds to every figure."""
    with watched() as server:
        return server.stall_ms("GET", "/health")


LIMIT = "≤ 20"
MEASUREMENTS = [
    Measurement("`GET /health` of an idle server", "ms", "", nothing),
    Measurement("dashboard root with 200,000 first blocks", "ms", LIMIT, dashboard_root),
    Measurement("dashboard path of 2,000 blocks", "ms", LIMIT, dashboard_path),
    Measurement("restart of an engine with 1,000,000 blocks", "ms", LIMIT, restart),
    Measurement("the same in 1,000 namespaces", "ms", LIMIT, restart_of_many_tenants),
    Measurement("`POST /reset` of 1,000,000 blocks", "ms", LIMIT, reset),
    Measurement("`GET /requests?limit=10000`", "ms", LIMIT, list_requests),
    Measurement("`POST /sync` of 4 MB", "ms", LIMIT, large_message),
    Measurement("100 blocks against 2 MB of history", "ms", LIMIT, long_history),
    Measurement("a slot event, 256 answers pending", "ms", LIMIT, slot_event),
    *[
        Measurement(
            f"`GET {path}`, 64 engines of 1,000 namespaces", "ms", LIMIT, partial(of_many, path)
        )
        for path in ("/stats", "/metrics", "/dashboard/feed", "/health")
    ],
]
