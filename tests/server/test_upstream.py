"""The HTTP client towards engines, against raw sockets that answer as no framework would."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import HIGH_WATER_BYTES, Answer, BrokenAnswerError

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
T = TypeVar("T")


def run(talk: Talk, use: Callable[[Upstream, str], Awaitable[T]], timeout_s: float = 10) -> T:
    """Serve raw connections by `talk`, and use a client of that server."""

    async def both() -> T:
        async def close_after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(close_after, "127.0.0.1", 0)
        upstream = Upstream(5, timeout_s)
        try:
            return await use(upstream, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        finally:
            upstream.close()
            server.close()
            await asyncio.sleep(0)

    return asyncio.run(both())


def answering(*answers: bytes) -> Talk:
    """Answer one request with each of these, then close."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return talk


async def get(upstream: Upstream, url: str, method: str = "GET") -> tuple[int, Any, bytes]:
    async with upstream.open(method, url, (), b"") as answer:
        return answer.status, answer.headers, await answer.read()


def test_an_engine_that_switches_protocols_is_broken() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw"
    with pytest.raises((UpstreamError, BrokenAnswerError)):
        run(answering(head), get)


def test_trailers_of_an_engine_are_no_headers() -> None:
    head, body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n0\r\n"
    status, headers, content = run(answering(head + body + b"Set-Cookie: a\r\n\r\n"), get)
    assert (status, headers, content) == (200, [(b"Transfer-Encoding", b"chunked")], b"ok")


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nX-A: \xff b\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
            b"ok",
        ),
    ],
)
def test_answers_of_all_framings_are_read(raw: bytes, body: bytes) -> None:
    status, headers, content = run(answering(raw), get)
    assert (status, content) == (200, body)
    if b"X-A" in raw:
        assert (b"X-A", b"\xff b") in headers


def test_head_has_no_body() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
    assert run(answering(raw), lambda u, url: get(u, url, "HEAD"))[2] == b""


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 400_000]
)
def test_what_is_no_answer_is_a_bad_gateway(raw: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        run(answering(raw), get)
    assert caught.value.status == 502


def test_silence_is_a_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(UpstreamError) as caught:
        run(silent, get, timeout_s=0.2)
    assert caught.value.status == 504


def test_an_answer_cut_short_is_broken() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"
    with pytest.raises(BrokenAnswerError) as caught:
        run(answering(raw), get)
    assert caught.value.has_begun


def test_connections_are_kept_and_replaced_when_closed_meanwhile() -> None:
    connections = []
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await answering(ok, ok)(reader, writer)
        await reader.readuntil(b"\r\n\r\n")  # the third request is read, and never answered

    async def use(upstream: Upstream, url: str) -> list[bytes]:
        return [(await get(upstream, url))[2] for _ in range(5)]

    assert run(twice, use) == [b"ok"] * 5
    assert len(connections) == 3


EVIL = b"HTTP/1.1 500 No\r\nContent-Length: 6\r\nX-Evil: 1\r\n\r\nPOISON"


@pytest.mark.parametrize("surplus", [EVIL, EVIL[:20], b"no HTTP", EVIL * 3])
def test_what_comes_behind_an_answer_is_no_part_of_it(surplus: bytes) -> None:
    connections = []
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await answering(ok + surplus, ok)(reader, writer)

    async def use(upstream: Upstream, url: str) -> list[Any]:
        return [await get(upstream, url) for _ in range(3)]

    assert run(talk, use) == [(200, [(b"Content-Length", b"2")], b"ok")] * 3
    assert len(connections) == 3


def test_late_bytes_reach_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    """They wait unread while the loop is away, as where it was busy; then no answer follows."""
    connections = []
    may_send, was_sent = threading.Event(), threading.Event()
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                connection.recv(1 << 16)
                connection.sendall(ok)
                may_send.wait(10)
                connection.sendall(EVIL)
                was_sent.set()

    async def use(url: str) -> list[bytes]:
        upstream = Upstream(5, 10)
        bodies = [(await get(upstream, url))[2]]
        may_send.set()
        assert was_sent.wait(10)  # the loop reads nothing meanwhile
        bodies += [(await get(upstream, url))[2]]
        await asyncio.sleep(0.1)  # now it does
        bodies += [(await get(upstream, url))[2] for _ in range(2)]
        upstream.close()
        return bodies

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert asyncio.run(use(f"http://127.0.0.1:{listener.getsockname()[1]}/")) == [b"ok"] * 4
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in connections:
        connection.close()
    assert len(connections) == 4
    assert caplog.text.count("sent more than its answers") == 1


def test_a_server_may_say_why_it_closes_an_idle_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(ok)(reader, writer)
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")

    async def use(upstream: Upstream, url: str) -> list[bytes]:
        bodies = []
        for _ in range(3):
            bodies.append((await get(upstream, url))[2])
            await asyncio.sleep(0.05)
        return bodies

    assert run(talk, use) == [b"ok"] * 3
    assert not caplog.records


def test_a_slow_reader_holds_the_engine_back() -> None:
    size = 64 * HIGH_WATER_BYTES
    written = 0

    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(b"x" * HIGH_WATER_BYTES)
            await writer.drain()
            written += HIGH_WATER_BYTES

    async def use(upstream: Upstream, url: str) -> int:
        async with upstream.open("GET", url, (), b"") as answer:
            await asyncio.sleep(0.5)
            assert written < size
            return len(await answer.read())

    assert run(much, use) == size


def test_chunks_that_come_at_once_are_one_piece() -> None:
    """Each piece has its price on the way to the client: an engine does not set how many."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def use(upstream: Upstream, url: str) -> list[bytes]:
        async with upstream.open("GET", url, (), b"") as answer:
            return [piece async for piece in answer.chunks()]

    pieces = run(answering(head + b"1\r\na\r\n1\r\nb\r\n" * 50_000 + b"0\r\n\r\n"), use)
    assert b"".join(pieces) == b"ab" * 50_000
    assert len(pieces) < 1000


@pytest.mark.parametrize(
    ("raw", "is_kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", False),
    ],
)
def test_answers_that_are_done_go_at_once_and_not_with_old_cycles(
    raw: bytes, is_kept: bool
) -> None:
    """A connection that is kept holds the last one."""

    async def use(upstream: Upstream, url: str) -> int:
        was_enabled = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await get(upstream, url)
            await asyncio.sleep(0.05)
            return sum(type(one) is Answer for one in gc.get_objects())
        finally:
            if was_enabled:
                gc.enable()

    assert run(answering(*[raw] * (5 if is_kept else 1)), use) <= is_kept
