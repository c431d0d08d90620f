"""Clients that leave at any moment: no place, no token, no request is counted for ever."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import urlsplit

import pytest
from servers import Scripted, Seen, Start, wait_until

NUM_CLIENTS = 60
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdefgh"]


async def paced(seen: Seen, send: Any) -> None:
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(5):
        await send({"type": "http.response.body", "body": b"piece ", "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"end"})


async def visit(url: str, rng: random.Random, outcomes: list[bool]) -> None:
    """Send a request and leave: with half of it sent, before an answer, within it, or after."""
    place = urlsplit(url)
    blocks = rng.sample(BLOCKS, 4)
    padding = "x" * rng.choice([0, 200_000])  # some are read on a thread
    content = {"contextpilot": {"contexts": blocks, "query": "?"}, "padding": padding}
    body = json.dumps(content).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    stays = rng.random() < 0.4
    part = len(body) if stays or rng.random() < 0.8 else len(body) // 2
    writer.write(head.encode() + body[:part])
    try:
        if stays:
            outcomes.append((await reader.readuntil(b"end")).startswith(b"HTTP/1.1 200"))
        else:
            await asyncio.sleep(rng.uniform(0, 0.3))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("places", [1, 3])
def test_who_leaves_leaves_nothing_behind(
    upstream: Scripted, start: Start, places: int, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answer = paced
    client = start(engine=(upstream.url,), max_in_flight=places)
    rng, outcomes = random.Random(places), list[bool]()

    async def visits() -> None:
        await asyncio.gather(*(visit(client.url, rng, outcomes) for _ in range(NUM_CLIENTS)))

    asyncio.run(asyncio.wait_for(visits(), 60))
    assert len(outcomes) > 10
    assert all(outcomes)

    def is_free() -> bool:
        (engine,) = client.get("/health").json()["engines"]
        assert engine["in_flight"] <= places
        return not (engine["in_flight"] or engine["waiting"] or engine["pending_tokens"])

    wait_until(is_free)
    wait_until(lambda: b"contextpilot_requests_in_progress 0.0\n" in client.get("/metrics").body)
    assert client.post("/v1/chat/completions", {"messages": []}).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
