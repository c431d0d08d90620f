"""Past every bound and through every fault, belief stays within what the engine truly holds."""

from __future__ import annotations

import json
import random
import socket
import urllib.parse
from typing import Any

import pytest
from caching_engine import BLOCK, CachingEngine, held_within
from servers import Client, Scripted, Start, wait_until

CHAT = "/v1/chat/completions"
SYSTEM = {"role": "system", "content": "Answers " + "briefly " * 31}
PASSAGES = [" ".join(f"word{n:02}{at:02}"[:7] for at in range(48)) for n in range(60)]


class Talk:
    """Sends requests whose contexts overlap, and checks each belief against the engine's cache."""

    def __init__(self, proxy: Client, upstream: Scripted, engine: CachingEngine) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._engine = engine
        self._chance = random.Random(1)
        self.believed = self.true = 0
        upstream.answer = engine.answer
        engine.index_url = proxy.url
        engine.tell()

    def ask(self, fate: str = "ok") -> None:
        """Send one request."""
        topic = 6 * int(10 * self._chance.random() ** 2)
        blocks = self._chance.sample(PASSAGES[topic : topic + 8] or PASSAGES[:8], 5)
        query = f"Question {self._chance.randrange(10**6)}?"
        messages = [SYSTEM, {"role": "user", "content": query}]
        body = {"messages": messages, "contextpilot": {"contexts": blocks}}
        self._engine.next = fate
        seen = len(self._upstream.seen)
        if fate in ("ok", "refused"):
            told = self._proxy.post(CHAT, body).result
            self._check(told["live_blocks"], blocks)
            return
        with sent(self._proxy, body):
            wait_until(lambda: len(self._upstream.seen) > seen)
            if fate == "read":
                wait_until(lambda: self._engine.has_told)
        assert self._upstream.last.gone.wait(10)
        wait_until(lambda: idle(self._proxy))

    def _check(self, live: int, blocks: list[str]) -> None:
        messages, hits = self._upstream.last.json()["messages"], self._engine.hits[-1]
        true = held_within(messages, blocks, hits + BLOCK - 1)  # all but a part of one block
        assert live <= true
        self.believed, self.true = self.believed + live, self.true + true


def sent(proxy: Client, content: Any) -> socket.socket:
    place, body = urllib.parse.urlsplit(proxy.url), json.dumps(content).encode()
    connection = socket.create_connection((place.hostname or "", place.port or 0))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def idle(proxy: Client) -> bool:
    text = proxy.get("/metrics").body.decode()
    return "\ncontextpilot_requests_in_progress 0.0\n" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_followed", "bounds", "least"),
    [
        (1_000_000, {}, 0.95),
        (60, {"window_size": 5}, 0.95),
        (1_000_000, {"max_blocks": 25}, 0.4),  # the index holds half of what the engine does
        (20, {"max_blocks": 25}, 0.4),
    ],
)
def test_belief_is_never_above_truth_and_close_to_it(
    upstream: Scripted, start: Start, max_followed: int, bounds: dict[str, int], least: float
) -> None:
    """One system prompt before all; 400 requests, some refused, some left, and three restarts."""
    engine = CachingEngine(capacity=240, max_followed=max_followed)
    proxy = start(engine=(upstream.url,), annotate=False, **bounds)
    talk = Talk(proxy, upstream, engine)
    chance = random.Random(2)
    for number in range(400):
        if number % 130 == 129:
            engine.restart()
        draw = chance.random()
        fate = "refused" if draw < 0.1 else "ignored" if draw < 0.12 else "ok"
        talk.ask("read" if 0.12 < draw < 0.14 else fate)
        if number == 300:
            talk.believed = talk.true = 0
    assert talk.believed >= least * talk.true > 0
