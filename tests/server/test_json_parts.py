"""JSON that takes many times its length once it is read is not read."""

from __future__ import annotations

import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import Scripted, Start, answers_after, wait_until

from contextpilot.http.json_parts import MAX_PARTS, PART_BYTES, num_parts, wide_bytes

CHAT = "/v1/chat/completions"
MANY = MAX_PARTS // 2
DENSE = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"9999,",
    "strings": b'"ab",',
}


def body_of(piece: bytes, count: int, name: bytes = b"messages") -> bytes:
    return b'{"%b":[' % name + piece * count + b"1]}"


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("count", [20_000, 200_000])
def test_parts_are_counted_by_what_they_take(kind: str, count: int) -> None:
    body = body_of(DENSE[kind], count)
    tracemalloc.start()
    read = json.loads(body)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read["messages"]) == count + 1
    assert taken <= PART_BYTES * num_parts(body) + 8 * len(body)


@pytest.mark.parametrize(
    "text",
    ["The quick brown fox, as they say, jumps: over the lazy dog. ", "\n\n\t", "9" * 80, "é"],
)
def test_texts_have_no_parts(text: str) -> None:
    messages = [{"role": "user", "content": text * 500} for _ in range(100)]
    assert num_parts(json.dumps({"messages": messages}).encode()) == 0


@pytest.mark.parametrize("piece", [b"[ ],   ", b"{},    ", b"12345, "])
def test_parts_hide_nowhere(piece: bytes) -> None:
    counts = {num_parts(b" " * before + body_of(piece, 20_000)) for before in range(len(piece))}
    marks = 20_000 * sum(piece.count(mark) for mark in b"[{,:")
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= marks - len(piece) * 20_000 // 16


def test_what_has_too_many_parts_goes_on_unread(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,))
    body = body_of(b"12345,", 8 * MANY, b"prompt")
    reply = client.request("POST", "/v1/completions", body)
    assert reply.status == 200
    assert reply.result["status"] == "unplanned"
    assert upstream.last.body == body


@pytest.mark.parametrize("kind", DENSE)
def test_where_it_would_have_to_be_read_it_is_refused(
    start: Start, upstream: Scripted, kind: str
) -> None:
    client = start(engine=(upstream.url,), cache_salt=True)
    named = {"Content_Type": "application/json"}
    body = body_of(DENSE[kind], 8 * MANY, b"contexts")
    for path in ("/reorder", "/sync", "/plan", "/evict"):
        reply = client.request("POST", path, body, **named)
        assert reply.status == 413
        assert "parts" in reply.json()["error"]["message"]
    assert client.request("POST", CHAT, body, **named).status == 400  # no salt can be written
    handed_over = body[:-1] + b',"contextpilot":{"contexts":["a"]}}'
    assert client.request("POST", CHAT, handed_over, **named).status == 413
    assert upstream.seen == []


def test_of_many_faults_the_first_is_told(start: Start) -> None:
    client = start()
    for name, path in ((b"contexts", "/reorder"), (b"request_ids", "/evict")):
        body = body_of(b"[],", MANY // 4, name)
        reply = client.request("POST", path, body, Content_Type="application/json")
        assert reply.status == 422
    many = {f"unknown-{number}": 0 for number in range(50_000)}
    reply = client.post("/reorder", {"contexts": ["a"], **many})
    assert reply.status == 422
    assert "too many fields" in reply.json()["error"]["message"]


def test_parts_count_towards_what_all_bodies_may_take(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), max_body_bytes=2_000_000, max_bodies_bytes=12_000_000)
    wait_until(lambda: client.get("/health").status == 200)
    body = body_of(b"[],", 100_000)
    assert PART_BYTES * num_parts(body) > 10_000_000
    may_end = threading.Event()
    upstream.answer = answers_after(may_end)
    with ThreadPoolExecutor(1) as threads:
        alone = threads.submit(client.request, "POST", CHAT, body)
        wait_until(lambda: bool(upstream.seen))
        assert client.request("POST", CHAT, body).status == 503
        may_end.set()
        assert alone.result().status == 200  # one alone is always taken
    wait_until(lambda: client.request("POST", CHAT, body).status == 200)


WIDE = {
    "plain": "",
    "accents": "\u00e9",
    "Chinese": "\u4e2d",
    "all Chinese": "\u4e2d" * 400_000,
    "an emoji": "\U0001f600",
    "a code": "\\u4e2d",
    "the codes of an emoji": "\\ud83d\\ude00",
}


@pytest.mark.parametrize("kind", WIDE)
def test_wide_texts_are_counted_by_what_they_take(kind: str) -> None:
    body = b'{"prompt":"%b"}' % (WIDE[kind] + "a " * 200_000 * ("all" not in kind)).encode()
    tracemalloc.start()
    text = body.decode()
    read = json.loads(text)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read
    assert taken <= wide_bytes(body) + 2 * len(body) + 4096
    assert wide_bytes(body) <= max(0, taken - len(body))


def test_wide_texts_count_towards_what_all_bodies_may_take(
    start: Start, upstream: Scripted
) -> None:
    client = start(engine=(upstream.url,), max_body_bytes=2_000_000, max_bodies_bytes=5_000_000)
    wait_until(lambda: client.get("/health").status == 200)
    plain, wide = (
        json.dumps({"prompt": text + "a " * 500_000}, ensure_ascii=False).encode()
        for text in ("", "\U0001f600")
    )
    may_end = threading.Event()
    upstream.answer = answers_after(may_end)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.request, "POST", CHAT, plain)
        wait_until(lambda: len(upstream.seen) == 1)
        assert client.request("POST", CHAT, wide).status == 503
        second = threads.submit(client.request, "POST", CHAT, plain)
        wait_until(lambda: len(upstream.seen) == 2)
        may_end.set()
        assert first.result().status == second.result().status == 200


def test_a_system_message_is_not_multiplied_beyond_a_body(start: Start) -> None:
    client = start(max_body_bytes=1_000_000)
    body = {"queries": ["q"] * 200, "all_contexts": [["a", "b"]] * 200}
    assert client.post("/optimize_batch", body | {"system_instruction": "s" * 4000}).status == 200
    refused = client.post("/optimize_batch", body | {"system_instruction": "s" * 6000})
    assert refused.status == 413
    assert refused.json()["error"]["field"] == "system_instruction"
