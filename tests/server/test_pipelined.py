"""Requests that a client sends without waiting for answers: so many, and all are its own."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import urllib.parse
from typing import Any

import pytest
from servers import Client, Scripted, Seen, Start, send_json, wait_until
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from contextpilot.server.protocol import MAX_PIPELINED

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'
POST = CHAT % len(BODY) + BODY
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(client: Client) -> socket.socket:
    place = urllib.parse.urlsplit(client.url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=60)


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
    return data


def waiting_at(upstream: Scripted) -> threading.Event:
    """Let the upstream answer once the event is set."""
    may_answer = threading.Event()

    async def answer(seen: Seen, send: Any) -> None:
        while not may_answer.is_set():
            await asyncio.sleep(0.01)
        await send_json(send, {"ok": True})

    upstream.answer = answer
    return may_answer


def test_as_many_as_are_bounded_are_answered_in_order(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,))
    targets = [b"/v1/%d" % number for number in range(MAX_PIPELINED + 1)]
    with connect(client) as sock:
        sock.sendall(b"".join(GET.replace(b"/v1/models", target) for target in targets))
        answers = b""
        while answers.count(b'{"ok": true}') < len(targets):
            answers += sock.recv(1 << 16)
        sock.sendall(GET)
        assert sock.recv(13) == b"HTTP/1.1 200 "
    assert [seen.target.encode() for seen in upstream.seen[:-1]] == targets
    assert b"connection: close" not in answers.lower()


def test_beyond_the_bound_none_is_taken_and_the_connection_ends(
    start: Start, upstream: Scripted
) -> None:
    may_answer = waiting_at(upstream)
    client = start(engine=(upstream.url,), client_timeout_s=1.0)
    with connect(client) as sock:
        sock.sendall(GET * 5_000 + b"GET /v1/half")
        wait_until(lambda: bool(upstream.seen))
        cycles = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
        assert len([one for one in cycles if not one.response_complete]) < 2 * MAX_PIPELINED + 10
        del cycles
        threading.Event().wait(1.5)  # it owes nothing: its rest is not waited for
        may_answer.set()
        answers = read_to_end(sock)
    assert len(upstream.seen) == answers.count(b"HTTP/1.1 200 OK") == MAX_PIPELINED + 1
    assert answers.lower().count(b"connection: close") == 1


@pytest.mark.parametrize("sent", [POST * 2, POST + GET, POST + CHAT % 100, POST + b"GET /v1/mod"])
def test_who_leaves_is_gone_for_all_that_it_asked(
    start: Start, upstream: Scripted, sent: bytes
) -> None:
    waiting_at(upstream)
    client = start(engine=(upstream.url,))
    with connect(client) as sock:
        sock.sendall(sent)
        wait_until(lambda: bool(upstream.seen))
    wait_until(lambda: upstream.seen[0].gone.is_set())
    wait_until(lambda: b"requests_in_progress 0" in client.get("/metrics").body)
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("behind", [b"no HTTP\r\n\r\n", GET[:-2] + b"X: " + b"x" * 200_000])
def test_what_is_refused_behind_a_request_is_not_written_into_its_answer(
    start: Start, upstream: Scripted, behind: bytes
) -> None:
    async def two_parts(seen: Seen, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(60)

    upstream.answer = two_parts
    client = start(engine=(upstream.url,))
    with connect(client) as sock:
        sock.sendall(POST)
        answer = b""
        while b"begun" not in answer:
            answer += sock.recv(1 << 16)
        try:
            sock.sendall(behind)
            answer += read_to_end(sock)
        except ConnectionError:
            pass
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"begun\r\n")
    wait_until(lambda: upstream.last.gone.is_set())


def test_bodies_behind_a_request_are_not_read_while_it_runs(
    start: Start, upstream: Scripted
) -> None:
    may_answer = waiting_at(upstream)
    client = start(engine=(upstream.url,))
    large = b'{"messages": [], "pad": "' + b"x" * (16 << 20) + b'"}'
    taken = 0
    with connect(client) as sock:
        sock.sendall(POST)
        wait_until(lambda: bool(upstream.seen))
        sock.settimeout(1.0)
        request = memoryview(CHAT % len(large) + large)
        try:
            while taken < len(request):
                taken += sock.send(request[taken : taken + 65536])
        except TimeoutError:
            pass
        assert taken < len(request)  # what the kernel's buffers take
        may_answer.set()
        sock.settimeout(60)
        sock.sendall(request[taken:])
        wait_until(lambda: len(upstream.seen) == 2)
    assert upstream.last.body == large
