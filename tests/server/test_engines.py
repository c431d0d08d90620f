"""Several engines behind one proxy: prefixes find their engine, dead engines are stood in for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from servers import Client, Scripted, Seen, send_json, serving, wait_until

CHAT = "/v1/chat/completions"
Start = Callable[..., Client]


def blocks(name: str) -> list[str]:
    return [f"Document {name}{i}: " + f"facts about {name}{i}. " * 12 for i in range(6)]


def explicit(name: str) -> dict[str, Any]:
    message = {"role": "user", "content": "why?"}
    return {"messages": [message], "contextpilot": {"contexts": blocks(name)}}


@pytest.fixture
def pair() -> Iterator[tuple[Scripted, Scripted]]:
    with ExitStack() as stack:
        both = Scripted(), Scripted()
        for scripted in both:
            scripted.url = stack.enter_context(serving(scripted))
        yield both


def test_requests_follow_their_prefix(pair: tuple[Scripted, Scripted], start: Start) -> None:
    client = start(engine=tuple(scripted.url for scripted in pair))
    for name in "abababab":
        client.post(CHAT, explicit(name))
    for scripted in pair:
        heads = {seen.json()["messages"][0]["content"][:20] for seen in scripted.seen}
        assert (len(heads), len(scripted.seen)) == (1, 4)


def test_plain_conversations_follow_their_prefix(
    pair: tuple[Scripted, Scripted], start: Start
) -> None:
    client = start(engine=tuple(scripted.url for scripted in pair))
    turns = {name: [{"role": "user", "content": f"I am {name}. " * 99}] for name in "ab"}
    for _ in range(4):
        for messages in turns.values():
            client.post(CHAT, {"messages": messages})
            messages += [
                {"role": "assistant", "content": "so?"},
                {"role": "user", "content": "go on"},
            ]
    for scripted in pair:
        heads = {seen.json()["messages"][0]["content"][:8] for seen in scripted.seen}
        assert (len(heads), len(scripted.seen)) == (1, 4)


def test_a_dead_engine_is_stood_in_for(pair: tuple[Scripted, Scripted], start: Start) -> None:
    one, _ = pair
    client = start(engine=("http://127.0.0.1:9", one.url))
    for name in "abcdef":
        reply = client.post(CHAT, explicit(name))
        assert reply.status == 200
        assert reply.result["status"] == "planned"
    assert len(one.seen) == 6


def test_an_engine_that_hangs_up_unanswered_is_stood_in_for(
    pair: tuple[Scripted, Scripted], start: Start
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(hang_up, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    client = start(engine=(f"http://127.0.0.1:{port}", pair[1].url))

    async def ask() -> int:
        return (await asyncio.to_thread(client.post, CHAT, explicit("a"))).status

    try:
        for _ in range(4):
            assert loop.run_until_complete(ask()) == 200
    finally:
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()


def test_an_answer_that_breaks_off_before_its_first_piece_is_asked_for_elsewhere(
    pair: tuple[Scripted, Scripted], start: Start
) -> None:
    async def head_only(seen: Seen, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.sleep(0.05)
        raise ConnectionError

    pair[0].answer = head_only
    client = start(engine=tuple(scripted.url for scripted in pair))
    for _ in range(4):
        assert client.post(CHAT, explicit("a")).json() == {"ok": True}
    assert len(pair[0].seen) >= 1


def test_what_was_streamed_is_not_retried(pair: tuple[Scripted, Scripted], start: Start) -> None:
    async def breaking(seen: Seen, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half"})

    for scripted in pair:
        scripted.answer = breaking
    client = start(engine=tuple(scripted.url for scripted in pair))
    with pytest.raises(Exception, match="IncompleteRead"):
        client.post(CHAT, explicit("a"))
    assert sum(len(scripted.seen) for scripted in pair) == 1


def test_the_record_tells_how_long_a_request_waited_for_its_place(
    pair: tuple[Scripted, Scripted], start: Start
) -> None:
    may_answer = threading.Event()

    async def later(seen: Seen, send: Any) -> None:
        await asyncio.to_thread(may_answer.wait, 20)
        await send_json(send, {})

    pair[0].answer = later
    client = start(engine=(pair[0].url,), max_in_flight=1)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(client.post, CHAT, explicit("a"))
        wait_until(lambda: len(pair[0].seen) == 1)
        second = threads.submit(client.post, CHAT, explicit("b"))
        wait_until(lambda: client.get("/health").json()["engines"][0]["waiting"] == 1)
        may_answer.set()
        ids = [answer.result().result["request_id"] for answer in (first, second)]
    served, waited = (client.get(f"/explain/{request_id}").json() for request_id in ids)
    assert served["waited_s"] < waited["waited_s"] < waited["first_byte_s"]
    assert "contextpilot_wait_seconds_count 2.0\n" in client.get("/metrics").body.decode()


def test_request_ids_go_into_the_body_where_the_engine_reads_it_there(
    pair: tuple[Scripted, Scripted], start: Start
) -> None:
    async def refused(seen: Seen, send: Any) -> None:
        await send_json(send, {"error": "busy"}, 503)

    sglang = start(engine=(pair[0].url,), kind="sglang")
    reply = sglang.post(CHAT, explicit("a"))
    assert pair[0].last.json()["rid"] == reply.result["request_id"]
    sglang.post(CHAT, {**explicit("a"), "rid": "mine"})
    assert pair[0].last.json()["rid"] == "mine"
    sglang.post(CHAT, {"messages": []})
    assert pair[0].last.json() == {"messages": []}
    pair[0].answer = refused
    assert sglang.post(CHAT, explicit("b")).json() == {"error": "busy"}


def test_a_routed_conversation_has_an_id_too(pair: tuple[Scripted, Scripted], start: Start) -> None:
    client = start(engine=tuple(scripted.url for scripted in pair), kind="sglang")
    plain = {"messages": [{"role": "user", "content": "nothing to plan"}]}
    assert client.post(CHAT, plain).result["status"] == "unplanned"
    [seen] = pair[0].seen + pair[1].seen
    sent = seen.json()
    assert sent.pop("rid") in seen.headers["x-request-id"]
    assert sent == plain
