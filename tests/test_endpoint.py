"""The in-process endpoint over real sockets, and planning on a shared index server."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import contextpilot as cp
from contextpilot import endpoint
from contextpilot.endpoint import MAX_CONNECTIONS, parse_address
from contextpilot.http.json_parts import MAX_PARTS
from contextpilot.sync.events import answer_message

TEXTS = [f"{word} " * 200 for word in ("alpha", "beta", "gamma", "delta", "epsilon")]


@pytest.fixture
def server() -> Iterator[cp.ContextPilot]:
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        yield pilot


def call(
    pilot: cp.ContextPilot, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    assert pilot.index_url is not None
    connection = http.client.HTTPConnection(pilot.index_url.removeprefix("http://"), timeout=10)
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    reply = connection.getresponse()
    result = reply.status, json.loads(reply.read())
    connection.close()
    return result


def sync(seq: int, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"version": 1, "engine": "e", "epoch": "a", "seq": seq, "events": list(events)}
    return {**message, **more}


def test_evictions_reach_the_plan(server: cp.ContextPilot) -> None:
    first = server.optimize(TEXTS[:3], "q")
    assert server.optimize([TEXTS[3], TEXTS[1], TEXTS[0]], "q").order == (2, 1, 0)
    gone = {"event": "truncated", "request": first.request_id, "tokens": 0}
    assert call(server, "POST", "/sync", sync(0, gone)) == (200, answer_message("ok"))
    explanation = server.explain(server.optimize([TEXTS[1], TEXTS[0]], "q"))
    assert explanation.matched_blocks == 0
    assert explanation.reason.startswith("evicted")
    status, health = call(server, "GET", "/health")
    assert status == 200
    assert health["engines"]["e"]["sync"] == server.engines()["e"]["sync"] == "exact"


def test_a_gap_is_answered_with_resync(server: cp.ContextPilot) -> None:
    assert call(server, "POST", "/sync", sync(5)) == (200, answer_message("resync"))


def test_evict_is_the_simple_form(server: cp.ContextPilot) -> None:
    messages = server.optimize(TEXTS[:2], "q")
    body = {"request_ids": [messages.request_id, "cp-unknown"]}
    assert call(server, "POST", "/evict", body) == (200, {"status": "ok", "known": 1})
    assert server.explain(server.optimize(TEXTS[:2], "q")).matched_blocks == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/sync", b"{", 400, "delimiter|property"),
        ("/sync", [], 400, "object"),
        ("/sync", sync(-1), 400, "seq"),
        ("/evict", {}, 400, "request_ids"),
        ("/plan", {}, 400, "contexts"),
        ("/plan", b"[" * 100_000, 400, ""),
        ("/nowhere", {}, 404, "/nowhere"),
        ("/sync", b"[" + b"[]," * MAX_PARTS + b"1]", 413, "parts"),
    ],
)
def test_bad_requests_get_an_error_and_change_nothing(
    server: cp.ContextPilot, path: str, body: Any, status: int, word: str
) -> None:
    before = server.stats()
    got, content = call(server, "POST", path, body)
    assert got == status
    assert any(part in content["error"] for part in word.split("|"))
    assert server.stats() == before


def test_a_body_without_length_or_too_large_is_refused(server: cp.ContextPilot) -> None:
    assert call(server, "POST", "/sync", None, **{"Content-Length": "99999999999"})[0] == 413
    assert call(server, "POST", "/sync", None, **{"Content-Length": "x"})[0] == 411


@pytest.mark.parametrize(
    "head",
    [
        b"POST /sync HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        b"POST /sync HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 40",
        b"POST /sync HTTP/1.1\r\nContent-Length: \xb2",
        b"POST /sync HTTP/1.1\r\nContent-Length: +2",
        b"POST /sync HTTP/1.1\r\nContent-Length: " + b"9" * 5_000,
        b"GET /health HTTP/1.1\r\nContent-Length: 40",
        b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked",
    ],
)
def test_no_body_becomes_another_request(server: cp.ContextPilot, head: bytes) -> None:
    with connected(server) as stranger:
        stranger.sendall(head + b"\r\nHost: x\r\n\r\n{}GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: stranger.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_bodies_have_a_bound_together(
    server: cp.ContextPilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MAX_BODIES_BYTES", 3_000_000)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            held = stack.enter_context(connected(server))
            held.sendall(b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
            held.sendall(b"x" * 1_400_000)
        large = b'{"request_ids": [], "pad": "' + b"x" * 1_400_000 + b'"}'
        wait_until(lambda: call(server, "POST", "/evict", large)[0] == 503)
        assert call(server, "POST", "/sync", sync(0))[0] == 200
    wait_until(lambda: call(server, "POST", "/evict", large)[0] == 200)


def connected(server: cp.ContextPilot) -> socket.socket:
    assert server.index_url is not None
    host, _, port = server.index_url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def test_a_token_guards_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "secret")
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        assert call(pilot, "POST", "/sync", sync(0))[0] == 401
        status, told = call(pilot, "POST", "/sync", sync(0), Authorization="Bearer other")
        assert status == 401
        assert "CONTEXTPILOT_INDEX_TOKEN" in str(told)
        assert call(pilot, "POST", "/sync", sync(0), Authorization="Bearer secret")[0] == 200
        with cp.ContextPilot(index_url=pilot.index_url) as client:
            assert client.reorder([3, 1, 2])[0] == [[3, 1, 2]]
        assert pilot.stats()["default"]["requests"] == 1


def test_a_large_body_without_the_token_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "secret")
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot, contextlib.ExitStack() as stack:
        assert pilot.index_url is not None
        host, _, port = pilot.index_url.removeprefix("http://").rpartition(":")
        stranger = stack.enter_context(socket.create_connection((host, int(port)), 10))
        stranger.sendall(b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 33554432\r\n\r\n")
        stranger.sendall(b"x" * (1 << 20))
        answer = b"".join(iter(lambda: stranger.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 401 ")


def test_idle_connections_hold_no_thread_for_long(server: cp.ContextPilot) -> None:
    assert server.index_url is not None
    host, _, port = server.index_url.removeprefix("http://").rpartition(":")
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        kept = http.client.HTTPConnection(host, int(port), timeout=10)
        stack.callback(kept.close)
        for number in range(4 * MAX_CONNECTIONS):
            idle = stack.enter_context(socket.create_connection((host, int(port)), 10))
            if number % 2:
                idle.sendall(b"POST /sync HTTP/1.1\r\nHost:")  # and never more
            if number % 20 == 0:
                call(server, "GET", "/health")  # once it is answered, all before it are accepted
                kept.request("GET", "/health")  # who asks now and then keeps its connection
                assert kept.getresponse().read()
        assert call(server, "POST", "/sync", sync(0))[0] == 200
        wait_until(lambda: threading.active_count() - before <= MAX_CONNECTIONS + 1)
    wait_until(lambda: threading.active_count() <= before)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def client(server: cp.ContextPilot) -> Iterator[cp.ContextPilot]:
    with cp.ContextPilot(index_url=server.index_url) as pilot:
        yield pilot


def test_two_processes_share_one_index(server: cp.ContextPilot, client: cp.ContextPilot) -> None:
    server.optimize(TEXTS[:3], "q")
    messages = client.optimize([TEXTS[3], TEXTS[1], TEXTS[0]], "q")
    assert messages.order == (2, 1, 0)
    explanation = client.explain(messages)
    assert explanation.matched_blocks == 2
    assert explanation.first_miss == TEXTS[3][:59].rstrip() + "…"
    batch, order = client.optimize_batch([TEXTS[:2], TEXTS[2:4], TEXTS[1:3]], ["a", "b", "c"])
    assert sorted(order) == [0, 1, 2]
    assert [m[-1]["content"][-1] for m in batch] == ["abc"[i] for i in order]
    assert client.stats()["default"]["requests"] == 4
    assert client.reorder([7, 8, 9])[0] == [[7, 8, 9]]
    assert client.reorder([{"id": "n2"}, {"id": "n1"}])[1] == [0]


def test_namespaces_stay_apart_on_a_shared_index(server: cp.ContextPilot) -> None:
    server.optimize(TEXTS[:3], "q", namespace="a")
    with cp.ContextPilot(index_url=server.index_url, namespace="b") as other:
        assert other.optimize([TEXTS[2], TEXTS[1], TEXTS[0]], "q").order == (0, 1, 2)


def test_the_url_is_taken_from_the_environment(
    server: cp.ContextPilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTPILOT_INDEX_URL", server.index_url or "")
    with cp.ContextPilot() as client:
        client.reorder([1, 2])
    cp.ContextPilot(index_url="").reorder([1, 2])
    assert server.stats()["default"]["requests"] == 1


def test_without_the_server_plans_are_made_here(caplog: pytest.LogCaptureFixture) -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as server:
        client = cp.ContextPilot(index_url=server.index_url)
        client.optimize(TEXTS[:2], "q")
    with client, caplog.at_level(logging.WARNING, "contextpilot"):
        for _ in range(3):
            assert len(client.optimize(TEXTS[:2], "q")) == 1
    assert sum("planning here" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage",
        b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 ok\r\nContent-Length: 12\r\n\r\n{"plans":[]}',
        b'HTTP/1.1 200 ok\r\nContent-Length: 30\r\n\r\n{"plans":[[0,[0,0,1],0,{}]]}  ',
    ],
)
def test_a_server_that_answers_nonsense_is_not_followed(answer: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # the test closes the listener
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with cp.ContextPilot(index_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        assert sorted(client.optimize(TEXTS[:3], "q").order) == [0, 1, 2]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("url", ["127.0.0.1:8765", "ftp://host", "http://", 5])
def test_a_wrong_index_url_is_named(url: Any) -> None:
    with pytest.raises(ValueError, match="index_url"):
        cp.ContextPilot(index_url=url)


@pytest.mark.parametrize("listen", ["8765", "host:", "host:70000", "host:x"])
def test_a_wrong_address_is_named(listen: str) -> None:
    with pytest.raises(ValueError, match="listen"):
        parse_address(listen)


def test_an_address_without_host_is_loopback() -> None:
    assert parse_address(":0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:80") == ("::1", 80)


def test_web_pages_of_strangers_are_refused(server: cp.ContextPilot) -> None:
    page = {"Origin": "https://page.example", "Content-Type": "text/plain"}
    for headers in (page, {"Host": "attacker.example"}):
        for path in ("/sync", "/evict", "/plan"):
            status, answer = call(server, "POST", path, sync(0), **headers)
            assert status == 403, answer
    assert call(server, "GET", "/health", Host="attacker.example")[0] == 403
    assert call(server, "GET", "/health")[1]["engines"] == {}


def test_an_address_that_is_taken_is_named(server: cp.ContextPilot) -> None:
    taken = (server.index_url or "").removeprefix("http://")
    with pytest.raises(OSError, match=f"listen: {taken} cannot be bound: Address already in use"):
        cp.ContextPilot(listen=taken)


def test_an_index_url_that_ends_in_v1_is_told_of(
    server: cp.ContextPilot, caplog: pytest.LogCaptureFixture
) -> None:
    with cp.ContextPilot(index_url=f"{server.index_url}/v1") as pilot:
        assert pilot.optimize(TEXTS[:2], "q").order == (0, 1)
    assert "an index is at the URL without /v1" in caplog.text
