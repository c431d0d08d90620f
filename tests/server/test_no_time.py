"""Where planning is what lacks time, requests go on as they came before any is refused."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import Client, Reply, Scripted, Start, wait_until

from contextpilot.planning import LocalPlanning
from contextpilot.prompt.conversation.prepare import RewritePreparer
from contextpilot.server.offload import LARGE_BLOCKS, LARGE_BYTES

CHAT = "/v1/chat/completions"
NUM_CLIENTS = 24
NUM_THREADS = 4
"""That read, or plan, at a time."""
NO_TIME = {"status": "unplanned", "reason": "no time to plan it"}


def talk(number: int, padding: int = 0) -> dict[str, Any]:
    listed = "".join(
        f"<document>\nText {number}.{n}: {'a fact. ' * 40}\n</document>\n" for n in "ab"
    )
    return {"messages": [{"role": "user", "content": f"{listed}Which?"}], "x": "x" * padding}


def told(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.result.get("reason", reply.result["status"]))


def at_once(client: Client, contents: list[Any]) -> list[Reply]:
    with ThreadPoolExecutor(len(contents)) as clients:
        return list(clients.map(lambda content: client.post(CHAT, content), contents))


def counted(client: Client, name: str) -> dict[str, float]:
    """Return the values of a metric by its labels."""
    lines = client.get("/metrics").body.decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(f"contextpilot_{name}{{")]
    return {labels.partition("{")[2]: float(value) for labels, _, value in found}


def test_requests_that_wait_too_long_are_passed_on_as_they_came(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = RewritePreparer.prepare

    def slowly(*args: Any, **named: Any) -> Any:
        time.sleep(0.05)
        return prepare(*args, **named)

    monkeypatch.setattr(RewritePreparer, "prepare", slowly)
    client = start(engine=(upstream.url,), max_plan_wait_s=0.1)
    contents = [talk(number, 2000) for number in range(NUM_CLIENTS)]
    outcomes = Counter(map(told, at_once(client, contents)))
    assert outcomes["no time to plan it"] > 0
    assert outcomes["planned"] > 0
    assert sum(outcomes.values()) == NUM_CLIENTS
    late = counted(client, "unplanned_total")['reason="no-time"}']
    assert late == outcomes["no time to plan it"]
    assert not counted(client, "refused_total")
    sent = Counter(seen.body for seen in upstream.seen)
    assert sum(sent[json.dumps(content).encode()] for content in contents) >= late
    assert told(client.post(CHAT, talk(0, 2000))) == "planned"  # there is time again


class Gate:
    """Holds threads in a function until it is opened."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.opened = threading.Event()
        self.held = 0
        self._work = work
        self._lock = threading.Lock()

    def through(self, *args: Any, **named: Any) -> Any:
        with self._lock:
            self.held += 1
        assert self.opened.wait(60)
        return self._work(*args, **named)


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(NUM_THREADS) as clients:
        yield clients


def test_large_bodies_wait_for_no_thread_for_long(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch, crowd: ThreadPoolExecutor
) -> None:
    gate = Gate(RewritePreparer.prepare)
    monkeypatch.setattr(RewritePreparer, "prepare", lambda *a, **k: gate.through(*a, **k))
    client = start(engine=(upstream.url,), max_plan_wait_s=0.2)
    before = [
        crowd.submit(client.post, CHAT, talk(number, LARGE_BYTES)) for number in range(NUM_THREADS)
    ]
    try:
        wait_until(lambda: gate.held == NUM_THREADS)
        content = talk(99, LARGE_BYTES)
        assert client.post(CHAT, content).result == NO_TIME
        assert upstream.last.body == json.dumps(content).encode()
        given = {"contexts": ["b text", "a text"], "query": "Which?"}
        handed_over = client.post(CHAT, {"contextpilot": given, "x": "x" * LARGE_BYTES})
        assert handed_over.result == NO_TIME
        text = json.dumps(upstream.last.json()["messages"])
        assert "contextpilot" not in upstream.last.json()
        assert 0 < text.index("b text") < text.index("a text") < text.index("Which?")
    finally:
        gate.opened.set()
    assert [told(one.result()) for one in before] == ["planned"] * NUM_THREADS


def test_many_blocks_wait_for_no_thread_for_long(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch, crowd: ThreadPoolExecutor
) -> None:
    gate = Gate(LocalPlanning.run)
    monkeypatch.setattr(LocalPlanning, "run", lambda *a, **k: gate.through(*a, **k))
    client = start(engine=(upstream.url,), max_plan_wait_s=0.2)

    def many(number: int) -> dict[str, Any]:
        contexts = [f"{number}.{n}" for n in range(LARGE_BLOCKS)]
        return {"contextpilot": {"contexts": contexts, "query": "?"}}

    before = [crowd.submit(client.post, CHAT, many(number)) for number in range(NUM_THREADS)]
    try:
        wait_until(lambda: gate.held == NUM_THREADS)
        assert told(client.post(CHAT, many(99))) == NO_TIME["reason"]
        assert "99.499" in upstream.last.body.decode()
    finally:
        gate.opened.set()
    assert [told(one.result()) for one in before] == ["planned"] * NUM_THREADS


def test_who_left_before_a_thread_began_takes_none(
    upstream: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch, crowd: ThreadPoolExecutor
) -> None:
    gate = Gate(LocalPlanning.run)
    monkeypatch.setattr(LocalPlanning, "run", lambda *a, **k: gate.through(*a, **k))
    client = start(engine=(upstream.url,), max_plan_wait_s=60.0)
    body = {"contexts": [[f"{n}" for n in range(LARGE_BLOCKS)]]}
    before = [crowd.submit(client.post, "/reorder", body) for _ in range(NUM_THREADS)]
    try:
        wait_until(lambda: gate.held == NUM_THREADS)
        given = {"contextpilot": {"contexts": body["contexts"][0], "query": "?"}}
        for _ in range(3):
            with pytest.raises(TimeoutError):
                impatient(client, given)
        wait_until(lambda: counted_sum(client, "client_disconnects_total") == 3)
    finally:
        gate.opened.set()
    assert [one.result().status for one in before] == [200] * NUM_THREADS
    wait_until(lambda: gate.held == NUM_THREADS)
    assert not upstream.seen


def counted_sum(client: Client, name: str) -> float:
    lines = client.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"contextpilot_{name}"))


def impatient(client: Client, content: Any) -> None:
    """Send a request, and go after a moment."""
    host = urllib.parse.urlsplit(client.url).netloc
    connection = http.client.HTTPConnection(host, timeout=0.3)
    try:
        connection.request("POST", CHAT, json.dumps(content).encode())
        connection.getresponse()
    finally:
        connection.close()


def test_nothing_is_planned_for_who_left_while_its_request_waited(
    start: Start, monkeypatch: pytest.MonkeyPatch, crowd: ThreadPoolExecutor
) -> None:
    run, began = LocalPlanning.run, threading.Event()

    def slowly(*args: Any, **named: Any) -> Any:
        began.set()
        time.sleep(1.0)  # the loop is away, as where the server stood still
        return run(*args, **named)

    client = start()
    monkeypatch.setattr(LocalPlanning, "run", slowly)
    first = crowd.submit(client.post, "/reorder", {"contexts": [["a", "b"]]})
    assert began.wait(60)
    place = urllib.parse.urlsplit(client.url)
    body = json.dumps({"contexts": [["c", "d"]]}).encode()
    head = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = f"POST /reorder HTTP/1.1\r\n{head}".encode() + body
    for stays in (False, True):
        with socket.create_connection((str(place.hostname), place.port or 0), 60) as connection:
            connection.sendall(request)
            if stays:
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert first.result().status == 200
    assert client.get("/stats").json()["requests"] == 2


def test_what_was_planned_for_who_left_meanwhile_is_not_believed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, began = LocalPlanning.run, threading.Event()

    def slowly(*args: Any, **named: Any) -> Any:
        began.set()
        time.sleep(0.5)
        return run(*args, **named)

    client = start()
    monkeypatch.setattr(LocalPlanning, "run", slowly)
    blocks = [[f"{n:032x}", 400] for n in range(LARGE_BLOCKS)]  # so many are planned on a thread
    job = {"namespace": "n", "contexts": [blocks], "bounds": {}, "head": [[], 0], "tails": [0]}
    place = urllib.parse.urlsplit(client.url)
    body = json.dumps({"id": "job", **job}).encode()
    head = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(place.hostname), place.port or 0), 60) as connection:
        connection.sendall(f"POST /plan HTTP/1.1\r\n{head}".encode() + body)
        assert began.wait(60)
    wait_until(lambda: client.get("/stats").json()["requests"] == 1)
    wait_until(lambda: client.get("/stats").json()["num_blocks"] == 0)
    assert client.post("/plan", {"id": "job", **job}).status == 200
    assert client.get("/stats").json()["num_blocks"] == LARGE_BLOCKS
