"""Other requests are served while a large one is worked on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import Start
from servers import Client, Reply, Scripted

from contextpilot.plan.online import Plan
from contextpilot.planning import Job
from contextpilot.server.engine import Engine
from contextpilot.server.reading import RequestReader

LARGE = 20 << 20
DOCUMENT = "<document>\n" + "a line of a document of some length\n" * 60 + "{}\n</document>\n"


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
    count = LARGE // len(DOCUMENT)
    text = "".join(DOCUMENT.format(number) for number in range(count)) + "Which one?"
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    reply = small.beside(lambda: proxy.request("POST", "/v1/chat/completions", body))
    assert reply.status == 200
    assert reply.result["status"] == "planned"
    assert upstream.last.json()["messages"][0]["content"].endswith("Which one?")
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


def test_objects_of_a_large_body_are_read_as_they_are(proxy: Client, upstream: Scripted) -> None:
    padding = [{"a": {"b": [{}, 1.5, None]}}] * 10_000
    body = {"messages": [], "own": padding, "contextpilot": {"contexts": ["a", "b"], "query": "?"}}
    assert proxy.post("/v1/chat/completions", body).result["status"] == "planned"
    sent = json.loads(upstream.last.body)
    assert sent["own"] == padding
