"""Clients that stop in the middle hold nothing for ever; those that are slow are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from servers import Client, Scripted, Seen, send_json, wait_until

Start = Callable[..., Client]
CHAT = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'
HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(BODY))


def connect(client: Client) -> socket.socket:
    place = urllib.parse.urlsplit(client.url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=60)


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
    return data


@pytest.mark.parametrize("sent", [HEAD[:-3], HEAD, HEAD + BODY[:-1]])
def test_half_a_request_is_answered_with_408(start: Start, upstream: Scripted, sent: bytes) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=0.3)
    with connect(client) as sock:
        sock.sendall(sent)
        assert read_to_end(sock).startswith(b"HTTP/1.1 408 ")
    assert upstream.seen == []


@pytest.mark.parametrize("before", [b"", HEAD + BODY])
def test_blank_lines_are_no_request(
    start: Start, upstream: Scripted, before: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=0.3)
    with connect(client) as sock:
        sock.sendall(before)
        if before:
            assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
            client.get("/health")  # its answer is over
        sock.sendall(b"\r\n")
        read_to_end(sock)  # else nobody would end it
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.slow
def test_a_head_in_drops_is_not_waited_for(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=1.0)
    with connect(client) as sock, contextlib.suppress(ConnectionError):
        for at in range(len(HEAD)):
            sock.sendall(HEAD[at : at + 1])
            time.sleep(0.1)
        sock.settimeout(0.5)
        assert b"HTTP/1.1 408 " in read_to_end(sock)
    assert upstream.seen == []


def test_half_a_second_request_is_answered_so_too(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=0.3)
    with connect(client) as sock:
        sock.sendall(HEAD + BODY)
        assert sock.recv(12) == b"HTTP/1.1 200"
        sock.sendall(HEAD)
        assert b"HTTP/1.1 408 " in read_to_end(sock)


def test_who_never_asks_is_let_go_without_a_word(start: Start) -> None:
    with connect(start(client_timeout_s=0.3)) as sock:
        assert read_to_end(sock) == b""


def test_who_does_not_read_lets_the_engine_go(start: Start, upstream: Scripted) -> None:
    async def endless(seen: Seen, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)  # after the end, sending waits for nothing

    upstream.answer = endless
    client = start(engine=(upstream.url,), client_timeout_s=0.3)
    with connect(client) as sock:
        sock.sendall(HEAD + BODY)
        wait_until(lambda: bool(upstream.seen))
        wait_until(lambda: upstream.last.gone.is_set())


@pytest.mark.parametrize("limit_s", [0.3, 0.0])
def test_who_waits_for_a_slow_engine_is_served(
    start: Start, upstream: Scripted, limit_s: float
) -> None:
    async def slow(seen: Seen, send: Any) -> None:
        await asyncio.sleep(1.0)
        await send_json(send, {"ok": True})

    upstream.answer = slow
    client = start(engine=(upstream.url,), client_timeout_s=limit_s)
    assert client.request("POST", CHAT, BODY).status == 200


@pytest.mark.slow
def test_who_sends_a_body_slowly_but_goes_on_is_served(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=3.0)
    body = BODY.replace(b"hello", b"x" * 20_000)
    with connect(client) as sock:
        sock.sendall(HEAD.replace(b"%d" % len(BODY), b"%d" % len(body)))
        for at in range(0, len(body), 1000):
            sock.sendall(body[at : at + 1000])
            time.sleep(0.25)
        assert sock.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("framed", [b"Content-Length: 9000", b"Transfer-Encoding: chunked"])
def test_a_body_in_drops_is_not_waited_for_and_holds_no_place(
    start: Start, upstream: Scripted, framed: bytes
) -> None:
    client = start(engine=(upstream.url,), client_timeout_s=1.0, max_requests=1)
    answer = b""
    with connect(client) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (CHAT.encode(), framed))
        sock.sendall(b"1\r\n{\r\n")
        assert client.request("POST", CHAT, BODY).status == 200
        sock.settimeout(0.05)
        for _ in range(200):
            sock.sendall(b"1\r\n{\r\n")
            with contextlib.suppress(TimeoutError):
                answer += sock.recv(1 << 16)
            if answer:
                break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert len(upstream.seen) == 1
