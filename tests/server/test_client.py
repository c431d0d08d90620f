"""Both clients against a real server: every call of the index API."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Client as Http
from socket_server import Connection, socket_server

import contextpilot as cp
from contextpilot.block import BlockReader
from contextpilot.client import AsyncClient, Client, ServerError
from contextpilot.errors import ContextPilotError, NoIndexError, TokenError, UnreachableError
from contextpilot.jobs import encode_job
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job

BLOCKS = [f"block {name} " * 90 for name in "abcd"]

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, start: Callable[..., Http]) -> Iterator[Call]:
    """`call(name, ...)`: one call of the client, its result awaited."""
    url = start(index_token="secret").url
    if request.param == "sync":
        with Client(url, "secret") as client:
            yield lambda name, *args, **named: getattr(client, name)(*args, **named)
        return
    loop = asyncio.new_event_loop()
    other = AsyncClient(url, "secret")
    yield lambda name, *args, **named: loop.run_until_complete(getattr(other, name)(*args, **named))
    loop.run_until_complete(other.close())
    loop.close()


def test_planning_calls(call: Call) -> None:
    first = call("optimize", BLOCKS, "why?", conversation_id="c", system_instruction="be brief")
    assert first["messages"][0] == {"role": "system", "content": "be brief"}
    again = call("optimize", BLOCKS[::-1], "how?", system_instruction="be brief", annotate=False)
    assert again["ranks"] == [3, 2, 1, 0]
    one = call("reorder", BLOCKS[::-1], namespace="other")
    assert one["contexts"] == [BLOCKS[::-1]]
    many = call("reorder", [BLOCKS, BLOCKS[1:]], stateless=True)
    assert sorted(many["order"]) == [0, 1]
    batch = call("optimize_batch", [BLOCKS, BLOCKS[:2]], ["a?", "b?"])
    assert [p["messages"][-1]["content"][-2:] for p in batch["prompts"]] == [
        "ab"[i] + "?" for i in batch["order"]
    ]
    found = call("deduplicate", [BLOCKS[0], "new " * 9], "c")
    assert found["overlapping_blocks"] == [BLOCKS[0]]
    assert found["new_blocks"] == ["new " * 9]
    rewritten = call("rewrite", [{"role": "user", "content": "hello"}], mode="off")
    assert rewritten["reason"] == "off"
    job = Job("default", BlockReader().read_batch([BLOCKS]), Bounds(), NO_HEAD, [0])
    assert call("plan", encode_job(job))["plans"][0][0] == 0


def test_state_calls(call: Call) -> None:
    request_id = call("reorder", BLOCKS)["request_ids"][0]
    assert call("explain", request_id)["reason"].startswith("cold")
    assert call("requests", 5)["requests"][0]["request_id"] == request_id
    assert call("stats")["requests"] == 1
    assert call("stats", "nobody")["requests"] == 0
    assert call("health")["status"] == "ok"
    assert "contextpilot_prefix_cache_hits_total 0" in call("metrics")
    message = {"version": 1, "engine": "e", "epoch": "0", "seq": 0, "events": []}
    assert call("sync", message) == {"status": "ok", "version": 3}
    unfollowed = [{"event": "unfollowed", "request": request_id}]
    newer = {**message, "version": 2, "seq": 1, "events": unfollowed, "more": 3}
    assert call("sync", newer) == {"status": "ok", "version": 3}
    assert call("health")["sync"]["e"]["sync"] == "approximate"  # a part of a snapshot is missing
    assert call("evict", [request_id, "cp-unknown"]) == {"status": "ok", "known": 1}
    assert call("reset", "default") == {"status": "ok"}
    assert call("reset") == {"status": "ok"}
    assert call("requests")["requests"] == []


def test_every_call_is_tested() -> None:
    here = inspect.getsource(test_planning_calls) + inspect.getsource(test_state_calls)
    calls = [n for n in dir(Client) if not n.startswith("_") and n != "close"]
    assert calls
    for name in calls:
        assert f'"{name}"' in here


def test_refusals_name_the_field(call: Call) -> None:
    with pytest.raises(ServerError) as caught:
        call("optimize", BLOCKS, 3)
    assert (caught.value.status, caught.value.field) == (422, "query")
    with pytest.raises(ServerError) as caught:
        call("deduplicate", BLOCKS, "unknown")
    assert caught.value.status == 422
    with pytest.raises(ServerError) as caught:
        call("explain", "cp-nothing")
    assert caught.value.status == 404


def test_the_token_is_needed(start: Callable[..., Http]) -> None:
    http = start(index_token="secret")
    with Client(http.url, "wrong") as client, pytest.raises(ServerError) as caught:
        client.stats()
    assert caught.value.status == 401
    assert isinstance(caught.value, TokenError)
    assert isinstance(caught.value, PermissionError)
    assert "CONTEXTPILOT_INDEX_TOKEN" in str(caught.value)
    assert http.get("/health").status == 200
    assert http.get("/metrics").status == 200
    for path in ("/requests", "/stats", "/explain/x", "/dashboard/feed", "/nothing"):
        assert http.get(path).status == 401
        assert b"CONTEXTPILOT_INDEX_TOKEN" in http.get(path).body
        assert http.get(path, Authorization="Bearer secret\xe9").status == 401


def test_an_absent_server_is_an_error() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnreachableError) as caught:
        client.health()
    assert caught.value.status is None
    assert isinstance(caught.value, ConnectionError)
    assert "http://127.0.0.1:9/health" in str(caught.value)
    for url in ("localhost:8765", "http://", "http://x:y", 5):
        with pytest.raises(ValueError, match="url must be"):
            Client(url)  # type: ignore[arg-type]


def failure(url: str, kind: str, name: str, *args: Any, timeout_s: float = 10) -> ServerError:
    """Return the error of one call of a client."""

    def call() -> None:
        with Client(url, "t", timeout_s) as client:
            getattr(client, name)(*args)

    async def call_async() -> None:
        async with AsyncClient(url, "t", timeout_s) as client:
            await getattr(client, name)(*args)

    with pytest.raises(ContextPilotError) as caught:
        call() if kind == "sync" else asyncio.run(call_async())
    assert isinstance(caught.value, ServerError)
    return caught.value


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@KINDS
def test_errors_of_a_listening_instance_are_its_words(kind: str) -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        url = pilot.index_url or ""
        error = failure(url, kind, "plan", {})
        assert (error.status, error.words) == (400, "field 'contexts' is missing")
        assert error.url == f"{url}/plan"
        assert all(part in str(error) for part in ("400", error.words, error.url))
        assert "request_ids" in failure(url, kind, "evict", [3]).words
        error = failure(url, kind, "stats")
        assert isinstance(error, NoIndexError)
        assert (error.status, error.words) == (404, "no such path: /stats")
        with Client(url) as client:
            assert client.health()["status"] == "ok"


def test_a_wrong_token_of_a_listening_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTPILOT_INDEX_TOKEN", "secret")
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        error = failure(pilot.index_url or "", "sync", "evict", [])
    assert isinstance(error, TokenError)
    assert "CONTEXTPILOT_INDEX_TOKEN" in str(error)
    assert "secret" not in str(error)


@KINDS
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"detail": "Not Found"}', "Not Found"),
        (404, b"<html>nothing here</html>", "nothing here"),
        (200, b"<html>welcome</html>", "welcome"),
        (200, b"[1, 2]", "[1, 2]"),
        (301, b"", "nothing"),
        (500, b'{"error": {"message": 5}}', "5"),
        (500, b'{"error": null}', "null"),
        (502, b"[" * 100_000, "[["),
        (503, b'{"status": "ok"}', "ok"),
    ],
)
def test_another_server_is_never_a_success(kind: str, status: int, body: bytes, words: str) -> None:
    def answer(connection: Connection) -> bool:
        return connection.send(status, body)

    with socket_server(answer) as server:
        error = failure(server.url, kind, "stats")
    assert error.status == status
    assert words in str(error)
    assert len(str(error)) < 1000
    assert server.url in str(error)


@KINDS
def test_health_of_a_server_without_engines_is_no_error(kind: str) -> None:
    def answer(connection: Connection) -> bool:
        return connection.send(503, {"status": "unavailable", "engines": []})

    with socket_server(answer) as server:
        if kind == "sync":
            with Client(server.url) as client:
                assert client.health()["status"] == "unavailable"
        assert failure(server.url, kind, "stats").status == 503


@KINDS
def test_a_silent_server_is_unreachable(kind: str) -> None:
    with socket_server(lambda _: True) as server:
        assert isinstance(failure(server.url, kind, "stats", timeout_s=0.2), UnreachableError)


@KINDS
def test_an_answer_that_drips_ends_with_the_call(kind: str) -> None:
    def drip(connection: Connection) -> bool:
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not server.stopping.wait(0.02):
            connection.socket.sendall(b"x")
        return False

    with socket_server(drip) as server:
        error = failure(server.url, kind, "stats", timeout_s=0.3)
        assert isinstance(error, UnreachableError)
        assert "in time" in str(error)


def test_errors_show_no_password() -> None:
    error = failure("http://user:word@127.0.0.1:9/a", "sync", "stats")
    assert "word" not in str(error)
    assert error.url == "http://127.0.0.1:9/a/stats"


def test_a_call_on_a_kept_connection_is_repeated_only_if_it_was_closed_unread() -> None:
    def answer(connection: Connection) -> bool:
        return len(connection.bodies) == 1 and connection.send(200, {})

    with socket_server(answer) as server, Client(server.url) as client:
        client.reorder(["a"])
        client.reorder(["b"])
        assert len(server.bodies) == 3


def test_a_call_that_times_out_is_not_repeated() -> None:
    def answer(connection: Connection) -> bool:
        return len(connection.bodies) > 1 or connection.send(200, {})

    with socket_server(answer) as server, Client(server.url, None, 0.3) as client:
        client.reorder(["a"])
        with pytest.raises(UnreachableError, match="in time"):
            client.reorder(["b"])
        assert len(server.bodies) == 2


def test_a_forked_child_opens_connections_of_its_own() -> None:
    def answer(connection: Connection) -> bool:
        return connection.send(200, {"number": connection.number})

    with socket_server(answer) as server, Client(server.url) as client:
        own = client.stats()["number"]
        assert client.stats()["number"] == own
        client._http._pid = -1  # as a child sees what its parent left
        assert client.stats()["number"] != own
