"""Plans whose prompts never reached an engine's cache are not believed: over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import Client, Scripted, Seen, Start, send_json, serving, wait_until

from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.server.pool.member import Engine
from contextpilot.server.proxy.prompt_read import ReadingSigns

CHAT = "/v1/chat/completions"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]
Answer = Callable[[Seen, Any], Awaitable[None]]


def asking(blocks: list[str], **members: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    return {"messages": messages, "contextpilot": {"contexts": blocks}, **members}


def live(proxy: Client, upstream: Scripted, blocks: list[str] = BLOCKS, **headers: str) -> Any:
    """The leading blocks that are believed: what a request that is refused is told of them."""
    told = upstream.answer
    upstream.answer = refusing(503)
    reply = proxy.post(CHAT, asking(blocks, **headers))
    upstream.answer = told
    return reply.result["live_blocks"]


def refusing(status: int) -> Answer:
    async def answer(seen: Seen, send: Any) -> None:
        await send_json(send, {"error": {"message": "no"}}, status)

    return answer


def streaming(*pieces: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Answer:
    async def answer(seen: Seen, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if then is not None:
            await then()
        await send({"type": "http.response.body", "body": b""})

    return answer


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503, 307])
def test_a_refused_prompt_is_not_believed(proxy: Client, upstream: Scripted, status: int) -> None:
    upstream.answer = refusing(status)
    assert proxy.post(CHAT, asking(BLOCKS)).result["live_blocks"] == 0
    assert live(proxy, upstream) == 0


def test_an_answered_prompt_is_believed(proxy: Client, upstream: Scripted) -> None:
    proxy.post(CHAT, asking(BLOCKS))
    assert live(proxy, upstream) == len(BLOCKS)
    assert live(proxy, upstream) == len(BLOCKS)  # the probe itself took nothing away


def test_what_a_refused_prompt_shares_with_others_stays(proxy: Client, upstream: Scripted) -> None:
    proxy.post(CHAT, asking(BLOCKS[:3]))
    upstream.answer = refusing(400)
    assert proxy.post(CHAT, asking(BLOCKS)).result["live_blocks"] == 3
    assert live(proxy, upstream) == 3


PROMPT_READ = b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
LONG_CREATED = (
    b'event: response.created\ndata: {"response": {"instructions": "'
    + b"be brief, " * 9000
    + b'"}, '
    b'"sequence_number": 0, "type": "response.created"}\n\n'
)
CREATED = b'event: response.created\ndata: {"type": "response.created", "response": {}}\n\n'


@pytest.mark.parametrize(
    ("pieces", "believed"),
    [
        ((LONG_CREATED, b'data: {"type": "response.output_item.added"}\n\n'), True),
        ((LONG_CREATED, b'event: response.output_item.added\ndata: {"a": 1}\n\n'), True),
        ((LONG_CREATED,), False),
        ((PROMPT_READ, b"data: [DONE]\n\n"), True),
        ((b": ping\n\n", PROMPT_READ), True),
        ((CREATED, b'data: {"type": "response.output_item.added"}\n\n'), True),
        ((b": ping\n\n",), False),
        ((CREATED,), False),
        ((b'data: {"error": {"message": "queue time-out", "code": 503}}\n\n',), False),
        ((b'event: error\ndata: {"type": "error", "error": {}}\n\n',), False),
        ((b'data: {"object": "error", "message": "too long"}\n\n', b"data: [DONE]\n\n"), False),
        ((CREATED, b'event: error\ndata: {"type": "error"}\n\n'), False),
        ((PROMPT_READ, b'data: {"error": {"message": "later"}}\n\n'), True),
    ],
)
def test_a_stream_is_believed_from_the_first_event_after_the_prompt(
    proxy: Client, upstream: Scripted, pieces: tuple[bytes, ...], believed: bool
) -> None:
    upstream.answer = streaming(*pieces)
    assert proxy.post(CHAT, asking(BLOCKS, stream=True)).body == b"".join(pieces)
    assert live(proxy, upstream) == (len(BLOCKS) if believed else 0)


@pytest.mark.parametrize("content", [{"error": {"message": "aborted"}}, {"object": "error"}])
def test_an_error_with_a_good_status_is_not_believed(
    proxy: Client, upstream: Scripted, content: Any
) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        await send_json(send, content)

    upstream.answer = answer
    proxy.post(CHAT, asking(BLOCKS))
    assert live(proxy, upstream) == 0


@contextmanager
def sent(proxy: Client, content: Any) -> Iterator[socket.socket]:
    """A request on a connection of its own, which ends at the end of the block."""
    place, body = urllib.parse.urlsplit(proxy.url), json.dumps(content).encode()
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        yield connection


def counted(proxy: Client, name: str) -> bool:
    return f"\ncontextpilot_{name}_total 1.0\n" in proxy.get("/metrics").body.decode()


@pytest.mark.parametrize("reads_first", [False, True])
def test_a_client_that_leaves_before_the_prompt_was_read(
    proxy: Client, upstream: Scripted, reads_first: bool
) -> None:
    async def wait() -> None:
        await asyncio.sleep(60)

    upstream.answer = streaming(*((PROMPT_READ,) if reads_first else ()), then=wait)
    with sent(proxy, asking(BLOCKS)) as connection:
        wait_until(lambda: bool(upstream.seen))
        if reads_first:
            assert b"200" in connection.recv(1000)
    assert upstream.last.gone.wait(10)
    wait_until(lambda: counted(proxy, "client_disconnects"))
    assert live(proxy, upstream) == (len(BLOCKS) if reads_first else 0)


def test_a_client_that_leaves_while_a_thread_plans(
    proxy: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread cannot be stopped: what it learns is taken back once it has."""
    begun, go_on = threading.Event(), threading.Event()
    plan, contexts = Engine.plan, [f"Document {n}: " + "facts " * 4 for n in range(600)]

    def slow(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return plan(*args)

    monkeypatch.setattr(Engine, "plan", slow)
    with sent(proxy, asking(contexts)):
        assert begun.wait(10)
    wait_until(lambda: counted(proxy, "client_disconnects"))
    monkeypatch.undo()
    go_on.set()
    wait_until(lambda: proxy.get("/stats").json()["requests"] == 1)
    wait_until(lambda: live(proxy, upstream, contexts) == 0)
    assert len(upstream.seen) >= 1


def test_a_prompt_that_the_proxy_refuses_is_not_believed(upstream: Scripted, start: Start) -> None:
    """SGLang would ignore the salt of a request in Anthropic's shape."""
    proxy = start(engine=(upstream.url,), kind="sglang", cache_salt=True)
    body = asking(BLOCKS)
    messages = {**body, "system": "Be brief.", "messages": body["messages"][1:]}
    assert proxy.post("/v1/messages", messages).status == 400
    assert not upstream.seen
    assert proxy.get("/stats").json()["num_blocks"] == 0


def test_a_plan_that_could_not_be_written_is_not_believed(
    proxy: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr("contextpilot.server.proxy.handler.written_for", broken)
        patch.setattr(
            "contextpilot.prompt.conversation.given_blocks.GivenBlocksRewrite.write",
            lambda *_: WrittenBody({}),
        )
        assert proxy.post(CHAT, asking(BLOCKS)).result["status"] == "unplanned"
    assert live(proxy, upstream) == 0


def test_an_engine_that_breaks_off_loses_the_plan_and_the_next_keeps_it(
    upstream: Scripted, start: Start
) -> None:
    """A retry at another engine, also of what could not be planned at the first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def break_off() -> None:
            while not done.is_set():
                try:
                    listener.settimeout(0.1)
                    connection = listener.accept()[0]
                except TimeoutError:
                    continue
                connection.settimeout(1)
                with connection:
                    request = connection.recv(1 << 16)
                    if request.startswith(b"GET /health"):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=break_off)
        thread.start()
        first = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            proxy = start(engine=(first, upstream.url))
            proxy.post(CHAT, asking(BLOCKS))
        finally:
            done.set()
            thread.join()
    assert len(upstream.seen) == 1
    one, two = proxy.get("/health").json()["engines"]
    assert (one["failed"], two["served"]) == (1, 1)
    assert proxy.get("/stats").json()["num_blocks"] == len(BLOCKS) + 1  # at one of them


@pytest.mark.parametrize("members", [{"n": 3}, {"stream": True, "n": 2}])
def test_several_answers_to_one_prompt_are_one_plan(
    proxy: Client, upstream: Scripted, members: dict[str, Any]
) -> None:
    upstream.answer = refusing(400)
    proxy.post(CHAT, asking(BLOCKS, **members))
    assert live(proxy, upstream) == 0
    upstream.answer = streaming(PROMPT_READ, PROMPT_READ)
    proxy.post(CHAT, asking(BLOCKS, **members))
    assert live(proxy, upstream) == len(BLOCKS)


def test_a_window_of_waiting_requests_believes_only_those_that_ran(
    upstream: Scripted, start: Start
) -> None:
    """Every other one is refused, after its plan was made together with its neighbours'."""
    proxy = start(engine=(upstream.url,), max_in_flight=1, window=8)
    contexts = [[BLOCKS[0], BLOCKS[1], f"Document {n}: " + "more facts " * 20] for n in range(8)]

    async def answer(seen: Seen, send: Any) -> None:
        await asyncio.sleep(0.02)
        text = seen.json()["messages"][-1]["content"]
        await send_json(send, {}, 401 if any(f"Document {n}:" in text for n in (1, 3)) else 200)

    upstream.answer = answer
    threads = [
        threading.Thread(target=proxy.post, args=(CHAT, asking(context))) for context in contexts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    believed = [live(proxy, upstream, context) for context in contexts]
    assert [number for number, n in enumerate(believed) if n < 3] == [1, 3]
    assert believed[1] == believed[3] == 2  # what they share with those that ran


def test_requests_whose_head_alone_is_known_are_taken_back_too(start: Start) -> None:
    with serving(Scripted(refusing(401))) as one, serving(Scripted(refusing(401))) as two:
        proxy = start(engine=(one, two))
        messages = [{"role": "user", "content": "Hello " * 100}]
        assert proxy.post(CHAT, {"messages": messages}).status == 401
        wait_until(lambda: proxy.get("/stats").json()["num_blocks"] == 0)


@pytest.mark.parametrize("split", [1, 3, 20])
def test_signs_do_not_depend_on_how_the_answer_is_cut(split: int) -> None:
    for body, reads in (
        (PROMPT_READ, True),
        (b": ping\n\n" + CREATED + PROMPT_READ, True),
        (b'data: {"error": {"message": "x"}}\n\n', False),
        (b'{"error": {"message": "x"}}', False),
        (b'{"error": null, "choices": []}', True),
        (b'{"choices": [{"message": {"content": "an \\"error\\": 1"}}]}' + b" " * 80, True),
        (b"plain text", True),
        (b"", True),
    ):
        signs = ReadingSigns()
        for at in range(0, len(body), split):
            signs.feed(body[at : at + split])
        signs.feed(None)
        assert signs.shows_reading is reads


def test_a_stream_that_is_kept_alive_for_long_is_believed_once_it_tells() -> None:
    """What came before is not kept."""
    signs = ReadingSigns()
    for _ in range(50_000):
        signs.feed(b": keep-alive\n\n")
        assert signs.shows_reading is None
    assert len(signs._rest) < 100
    signs.feed(b'data: {"choices": [{"text": "' + b"x" * 10_000)
    assert signs.shows_reading is True


def test_blanks_before_an_answer_are_not_kept() -> None:
    signs = ReadingSigns()
    for _ in range(1000):
        signs.feed(b" \r\n\t" * 25)
        assert signs.shows_reading is None
        assert len(signs._rest) < 100
    signs.feed(b'{"error": "no"}')
    assert signs.shows_reading is False
