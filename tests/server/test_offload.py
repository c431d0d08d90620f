"""Other requests are served while a large one is worked on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from servers import Client, Reply, Scripted, Start

from contextpilot.dedup.conversation import Conversations
from contextpilot.plan.online import Plan
from contextpilot.planning import Job
from contextpilot.server.offload import LARGE_BYTES, parse_slowly
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.server.proxy.incoming import RequestReader
from contextpilot.server.service import Service

JSON = "application/json"
LARGE = 20 << 20
DOCUMENT = "<document>\n" + "a line of a document of some length\n" * 340 + "{}\n</document>\n"


@dataclass
class Small:
    """Sends small requests, one after another, and tells how many were served while one works."""

    send: Callable[[], Reply]
    served: int = 0
    during: list[int] = field(default_factory=list)

    def watched(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, whose calls count what is served meanwhile."""

        def call(*arguments: Any, **named: Any) -> Any:
            before = self.served
            try:
                return work(*arguments, **named)
            finally:
                self.during.append(self.served - before)

        return call

    def wait_for(self, more: int, timeout: float = 10.0) -> None:
        """Return once so many more were served, or after `timeout` seconds."""
        enough, until = self.served + more, time.monotonic() + timeout
        while self.served < enough and time.monotonic() < until:
            time.sleep(0.001)

    def beside(self, large: Callable[[], Reply]) -> Reply:
        """Send while a large request is served; return its reply."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(large)
            while not waiting.done():
                assert self.send().status == 200
                self.served += 1
            return waiting.result()


def reorder(client: Client, namespace: str) -> Small:
    body = {"contexts": ["a", "b"], "namespace": namespace}
    return Small(lambda: client.post("/reorder", body))


def test_a_body_of_20_mb_holds_nobody_up(
    proxy: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = reorder(proxy, "other")
    monkeypatch.setattr(RequestReader, "read", small.watched(RequestReader.read))
    document = DOCUMENT.replace("{}", "and a longer line of it\n" * 800 + "{}")
    count = LARGE // len(document)
    text = "".join(document.format(number) for number in range(count)) + "What do they say of it?"
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    reply = small.beside(lambda: proxy.request("POST", "/v1/chat/completions", body))
    assert reply.status == 200
    assert reply.result["status"] == "planned"
    assert upstream.last.json()["messages"][0]["content"].endswith("What do they say of it?")
    assert small.during[0] >= 5


@pytest.mark.parametrize("namespace", ["other", "default"])
def test_a_batch_of_2000_holds_nobody_up(
    start: Start, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    client = start()
    contexts = [
        [f"block {(number * step) % 977} " * 20 for step in range(1, 16)] for number in range(2000)
    ]
    batch = {"all_contexts": contexts, "queries": ["why?"] * 2000}
    small = reorder(client, namespace)
    plan = Engine.plan
    watched = small.watched(plan)

    def planning(engine: Engine, job: Job, ready: Plan | None = None) -> Any:
        return (watched if len(job.contexts) > 1 else plan)(engine, job, ready)

    monkeypatch.setattr(Engine, "plan", planning)
    reply = small.beside(lambda: client.post("/optimize_batch", batch))
    assert reply.status == 200
    assert sorted(reply.json()["order"]) == list(range(2000))
    assert small.during[0] >= 5


@pytest.mark.parametrize("count", [1, 600])
def test_a_deduplication_of_much_or_against_much_holds_nobody_up(
    start: Start, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    client = start()
    texts = [f"{number:03d} is its number" for number in range(600)]
    talk = {"conversation_id": "talk", "contexts": texts}
    assert client.post("/optimize", {**talk, "query": "?"}).status == 200
    small, deduplicate = reorder(client, "other"), Conversations.deduplicate

    def compare(*arguments: Any) -> Any:
        small.wait_for(2)  # in vain where the loop itself compares
        return deduplicate(*arguments)

    monkeypatch.setattr(Conversations, "deduplicate", small.watched(compare))
    body = {**talk, "contexts": texts[:count]}
    reply = small.beside(lambda: client.post("/deduplicate", body))
    assert reply.json()["overlapping_blocks"] == texts[:count]
    assert small.during[0] >= 2


def test_objects_of_a_large_body_are_read_as_they_are(proxy: Client, upstream: Scripted) -> None:
    padding = [{"a": {"b": [{}, 1.5, None]}}] * 10_000
    body = {"messages": [], "own": padding, "contextpilot": {"contexts": ["a", "b"], "query": "?"}}
    assert proxy.post("/v1/chat/completions", body).result["status"] == "planned"
    sent = json.loads(upstream.last.body)
    assert sent["own"] == padding


def sync_body(seq: int, events: list[dict[str, Any]], engine: str = "e") -> bytes:
    content = {"version": 1, "engine": engine, "epoch": "1", "seq": seq, "events": events}
    return json.dumps(content).encode()


def told(number: int, tokens: int) -> dict[str, Any]:
    return {"event": "cached", "request": f"cp-{number:024d}", "tokens": tokens}


def test_a_sync_message_of_4_mb_holds_nobody_up_and_keeps_its_place(
    proxy: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = reorder(proxy, "other")
    taken: list[int] = []
    receive = PoolReceiver.receive

    def watched(receiver: PoolReceiver, message: Any) -> Any:
        taken.append(message.seq)
        return receive(receiver, message)

    parsing = threading.Event()

    def parse(content: bytes) -> Any:
        parsing.set()
        small.wait_for(2)  # in vain where the loop itself parses
        return parse_slowly(content)

    monkeypatch.setattr(PoolReceiver, "receive", watched)
    monkeypatch.setattr(
        "contextpilot.server.index_api.body_routes.parse_slowly", small.watched(parse)
    )
    large = sync_body(0, [told(number, 1) for number in range(120_000)])
    assert len(large) > 4 << 20

    def send() -> Reply:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(proxy.request, "POST", "/sync", large, Content_Type=JSON)
            assert parsing.wait(60)  # the next is small, and must wait for it
            second = proxy.post("/sync", json.loads(sync_body(1, [told(1, 2)])))
            assert (second.status, second.json()["status"]) == (200, "ok")
            return first.result()

    assert small.beside(send).json()["status"] == "ok"
    assert taken == [0, 1]
    assert small.during[0] >= 2  # of a loop that is held up, one at most


@pytest.mark.slow
def test_events_wait_behind_no_planning(proxy: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    plan = Engine.plan

    def long(engine: Engine, job: Job, ready: Plan | None = None) -> Any:
        if len(job.contexts) > 1:
            assert released.wait(60)
        return plan(engine, job, ready)

    monkeypatch.setattr(Engine, "plan", long)
    batch = {"contexts": [[f"block {n} {step}" for step in range(5)] for n in range(100)]}
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(proxy.post, "/reorder", batch) for _ in range(16)]
        reply = proxy.post("/sync", json.loads(sync_body(0, [told(1, 2)])))
        assert reply.json()["status"] == "ok"
        large = json.dumps({"contexts": ["x" * (200 << 10)], "query": "?"}).encode()
        assert proxy.request("POST", "/optimize", large, Content_Type=JSON).status == 200
        released.set()
        assert {one.result().status for one in waiting} == {200}


@pytest.mark.parametrize(
    "body", [b"{" + b" " * LARGE_BYTES, b"[" * LARGE_BYTES, b"[]" + b" " * LARGE_BYTES]
)
def test_large_bodies_that_are_unfit_are_refused(proxy: Client, body: bytes) -> None:
    reply = proxy.request("POST", "/sync", body, Content_Type=JSON)
    assert reply.status in (400, 422)
    assert reply.json()["error"]["message"].startswith("body")


def test_large_messages_name_the_field_at_fault(proxy: Client) -> None:
    events = [told(number, 1) for number in range(5_000)] + [{"event": "cached", "tokens": 1}]
    reply = proxy.request("POST", "/sync", sync_body(0, events), Content_Type=JSON)
    assert reply.status == 422
    assert "events[5000].request" in reply.json()["error"]["message"]


def test_blocks_against_a_long_history_hold_nobody_up(
    proxy: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = reorder(proxy, "other")
    monkeypatch.setattr(Service, "_turns", small.watched(Service._turns))
    texts = [DOCUMENT.format(number) for number in range(100)]
    history = [{"role": "user", "content": "words that repeat nothing. " * 80_000}]
    body = json.dumps({"contexts": texts, "query": "?", "history": history}).encode()
    reply = small.beside(lambda: proxy.request("POST", "/optimize", body, Content_Type=JSON))
    assert reply.status == 200
    assert small.during[0] >= 1
