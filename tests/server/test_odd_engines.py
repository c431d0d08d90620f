"""Engines that answer what no engine should: clients get errors, the server keeps its memory."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Client, Scripted, Seen, Start, send_json, serving, wait_until
from socket_server import Connection, SocketServer, socket_server

CHAT = "/v1/chat/completions"
TURN = {"messages": [{"role": "user", "content": "hello"}]}


def raw(answer: bytes, pieces: int = 0, piece: bytes = b"") -> Callable[[Connection], bool]:
    """Return what answers prompts with these bytes, then a piece so many times; others well."""

    def serve(connection: Connection) -> bool:
        if not connection.bodies or b"hello" not in connection.bodies[-1]:
            return connection.send(200, {})
        with contextlib.suppress(OSError):
            connection.socket.sendall(answer)
            for _ in range(pieces):
                connection.socket.sendall(piece)
        return False

    return serve


@contextlib.contextmanager
def before(
    start: Start, answer: bytes, pieces: int = 0, piece: bytes = b""
) -> Iterator[tuple[Client, SocketServer]]:
    with socket_server(raw(answer, pieces, piece)) as engine:
        client = start(engine=(engine.url,), kind="other")
        wait_until(lambda: client.get("/health").status == 200)
        yield client, engine


@pytest.mark.parametrize("status", [b"101", b"600", b"999"])
def test_a_status_that_is_none_is_an_error(start: Start, status: bytes) -> None:
    with before(start, b"HTTP/1.1 %b X\r\nContent-Length: 2\r\n\r\nhi" % status) as (client, _):
        reply = client.post(CHAT, TURN)
    assert reply.status == 502
    assert reply.json()["error"]["message"].endswith(
        f"status {status.decode()} cannot be passed on"
    )


@pytest.mark.parametrize(
    "coding",
    [
        b"gzip, chunked",
        b"gzip\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: identity",
    ],
)
def test_an_answer_in_a_coding_that_is_not_read_is_an_error(start: Start, coding: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n2\r\nhi\r\n0\r\n\r\n" % coding
    with before(start, answer) as (client, _):
        assert client.post(CHAT, TURN).status == 502


def test_a_head_in_drops_is_not_waited_for(start: Start) -> None:
    ended = threading.Event()

    def drops(connection: Connection) -> bool:
        if not connection.bodies or b"hello" not in connection.bodies[-1]:
            return connection.send(200, {})
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 600:
                connection.socket.sendall(bytes([byte]))
                if ended.wait(0.05):
                    break
        return False

    with socket_server(drops) as engine:
        client = start(engine=(engine.url,), kind="other", read_timeout_s=1)
        wait_until(lambda: client.get("/health").status == 200)
        assert client.post(CHAT, TURN).status == 504
        ended.set()


def test_the_result_is_told_once_and_by_us(start: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-ContextPilot-Result: forged\r\nContent-Length: 2\r\n\r\n{}"
    with before(start, head) as (client, _):
        body, named = json.dumps(TURN).encode(), {"Content_Type": "application/json"}
        with client.open("POST", CHAT, body, **named) as answer:
            told = answer.headers.get_all("x-contextpilot-result") or []
    assert [json.loads(result)["status"] for result in told] == ["unplanned"]


def test_an_answer_without_a_body_has_no_length(start: Start) -> None:
    answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"
    with before(start, answer) as (client, _):
        reply = client.post(CHAT, TURN)
    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize("begun", [b"0\r\nX: ", b"2\r\n{}\r\n0\r\nX: ", b"1;"])
def test_endless_trailers_and_extensions_end(start: Start, begun: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = []

    def endless(connection: Connection) -> bool:
        if not connection.bodies or b"hello" not in connection.bodies[-1]:
            return connection.send(200, {})
        with contextlib.suppress(OSError):
            connection.socket.sendall(head + begun)
            for _ in range(1024):
                connection.socket.sendall(b"a" * 65536)
                sent.append(65536)
        return False

    with socket_server(endless) as engine:
        client = start(engine=(engine.url,), kind="other")
        wait_until(lambda: client.get("/health").status == 200)
        with contextlib.suppress(Exception):  # an answer that has begun ends broken
            assert client.post(CHAT, TURN).status == 502
        wait_until(lambda: client.get("/health").status == 200)
    assert sum(sent) < 32 << 20  # the kernel's buffers take some


def test_counts_of_thousands_of_digits_are_none(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with before(start, answer) as (client, _):
        assert client.post(CHAT, TURN).body == body
        assert client.get("/metrics").status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@contextlib.contextmanager
def three_that_hang_up(start: Start) -> Iterator[tuple[Client, list[SocketServer]]]:
    def serve(connection: Connection) -> bool:
        is_pill = bool(connection.bodies) and b"pill" in connection.bodies[-1]
        return not is_pill and connection.send(200, {})

    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(socket_server(serve)) for _ in range(3)]
        client = start(engine=tuple(engine.url for engine in engines), kind="other")
        wait_until(lambda: client.get("/health").status == 200)
        yield client, engines


def num_pills(engines: list[SocketServer]) -> list[int]:
    return sorted(sum(b"pill" in body for body in engine.bodies) for engine in engines)


def test_a_prompt_that_brings_engines_down_is_given_up(start: Start) -> None:
    with three_that_hang_up(start) as (client, engines):
        for _ in range(9):  # every engine has a kept connection
            assert client.post(CHAT, TURN).status == 200
        pill = {"messages": [{"role": "user", "content": "pill"}]}
        assert client.post(CHAT, pill).status == 502
        assert num_pills(engines)[0] == 0
        assert sum(num_pills(engines)) <= 4  # a kept connection may have been closed unread


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank/"])
def test_what_is_only_calculated_keeps_connections_and_finds_another_engine(
    start: Start, path: str
) -> None:
    with three_that_hang_up(start) as (client, engines):
        before = sum(engine.num_connections for engine in engines)
        for _ in range(20):
            assert client.post(path, TURN).status == 200
        assert sum(engine.num_connections for engine in engines) - before <= len(engines)
        assert client.post(path, {"input": "pill"}).status == 502
        assert sum(count > 0 for count in num_pills(engines)) == 2


def test_what_changes_something_is_sent_once(start: Start) -> None:
    with three_that_hang_up(start) as (client, engines):
        for _ in range(9):
            assert client.post("/v1/files", TURN).status == 200
        assert client.post("/v1/files", {"file": "pill"}).status == 502
        assert num_pills(engines) == [0, 0, 1]


def test_another_stands_in_for_an_engine_that_is_not_available(
    upstream: Scripted, start: Start
) -> None:
    async def loading(_: Any, send: Any) -> None:
        await send_json(send, {"error": "Loading model"}, 503)

    other = Scripted(loading)
    with serving(other) as url:
        client = start(engine=(url, upstream.url))
        wait_until(lambda: all(one["up"] for one in client.get("/health").json()["engines"]))
        asked = [client.post("/v1/chat/completions", {"messages": []}) for _ in range(6)]
        assert [reply.status for reply in asked] == [200] * 6
        assert other.seen
        upload = [client.post("/v1/files", {}).status for _ in range(6)]
        assert set(upload) <= {200, 503}
        alone = start(engine=(url,)).post("/v1/chat/completions", {"messages": []})
        assert (alone.status, alone.json()) == (503, {"error": "Loading model"})


@pytest.mark.parametrize(
    ("kind", "is_boxed"),
    [
        ("text/html", True),
        ("IMAGE/SVG+XML", True),
        (None, True),
        ("application/json; charset=utf-8", False),
        ("text/event-stream", False),
        ("text/plain, text/html", True),
        ("text/plain;a=b,text/html", True),
        ("application/json-in-a-page", True),
        ("Audio/wav", False),
    ],
)
def test_a_page_of_an_engine_runs_nothing_beside_our_own(
    kind: str | None, is_boxed: bool, start: Start, upstream: Scripted
) -> None:
    async def page(seen: Seen, send: Any) -> None:
        headers = [(b"content-type", kind.encode())] if kind else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<script>steal()</script>"})

    upstream.answer = page
    reply = start(engine=(upstream.url,)).get("/v1/models")
    assert reply.headers.get("content-type") == kind
    assert (reply.headers.get("content-security-policy") == "sandbox") is is_boxed
