"""Our own schema against the real server: no 5xx, nothing undocumented; and hostile bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import Client, Scripted, wait_until

Start = Callable[..., Client]
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
FEW = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@pytest.mark.slow
def test_every_endpoint_keeps_its_schema(start: Start) -> None:
    client = start()
    schema = schemathesis.openapi.from_url(client.url + "/openapi.json")
    tested = []
    joins = {"path": "/engines", "method": "POST"}  # to addresses where nobody serves
    for result in schema.exclude(**joins).get_all_operations():
        operation = result.ok()
        tested.append(operation.path)

        @FEW
        @given(case=operation.as_strategy())
        def fuzz(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        fuzz()
    assert len(tested) >= 15
    assert client.get("/health").status == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
PART = st.fixed_dictionaries({"type": st.sampled_from(["text", "tool_result"]), "text": JSON})
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "tool", "system", "assistant", 7])},
    optional={"content": JSON | st.lists(PART, max_size=3), "type": JSON, "output": JSON},
)
FIELD = st.fixed_dictionaries({"contexts": st.lists(st.text(), max_size=3) | JSON}) | JSON
BODY = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE, max_size=3) | JSON,
        "input": st.lists(MESSAGE, max_size=3) | JSON,
        "prompt": JSON,
        "system": JSON,
        "tools": JSON,
        "instructions": JSON,
        "contextpilot": FIELD,
    },
)
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/x"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["other", "anthropic", "sglang"])
def test_no_body_makes_the_proxy_fail(upstream: Scripted, start: Start, kind: str) -> None:
    client = start(engine=(upstream.url,), kind=kind)

    @settings(FEW, max_examples=150)
    @given(st.sampled_from(PATHS), BODY | JSON)
    def fuzz(path: str, body: Any) -> None:
        num_seen = len(upstream.seen)
        reply = client.post(path, body)
        assert reply.status in (200, 400)
        if reply.status == 200 and reply.result["status"] != "planned":
            assert upstream.seen[num_seen].json() == body

    fuzz()
    text = client.get("/metrics").body.decode()
    assert "\ncontextpilot_plan_failures_total 0.0\n" in text


def exchange(client: Client, request: bytes) -> bytes:
    host, port = client.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\xff garbage\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_hostile_bytes_do_no_harm(proxy: Client, request_bytes: bytes) -> None:
    received = exchange(proxy, request_bytes)
    assert b" 500 " not in received[:20]
    wait_until(lambda: proxy.get("/health").status == 200)  # 503 until its engine was probed


@pytest.mark.parametrize("bomb", [b"X-A: " + b"b" * (1 << 20), b"X-A: b\r\n" * 100_000])
def test_header_bombs_are_refused(proxy: Client, upstream: Scripted, bomb: bytes) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + bomb + b"\r\n\r\n"
    closed_early = contextlib.suppress(ConnectionError)
    with socket.create_connection((host, int(port)), 20) as connection, closed_early:
        connection.sendall(request)
        assert connection.recv(4096)[9:12] in (b"431", b"400", b"")
    assert not upstream.seen
    assert proxy.get("/v1/models", X_A="b" * 30_000).status == 200


CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize("before", [b"0\r\nX: ", b"0\r\n", b"1;", b"2\r\n{}\r\n0\r\nX: y\r\nZ: "])
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/reset"])
def test_endless_trailers_and_extensions_are_refused(
    proxy: Client, upstream: Scripted, before: bytes, path: bytes
) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    request = CHUNKED.replace(b"/v1/chat/completions", path)
    sent = 0
    with (
        socket.create_connection((host, int(port)), 20) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(request + before)
        while sent < 32 << 20:
            connection.sendall(b"a" * 65536)
            sent += 65536
    assert sent < 32 << 20  # what the kernel's buffers take is not read
    assert not upstream.seen


@pytest.mark.slow
def test_a_body_in_chunks_of_one_byte_passes(proxy: Client, upstream: Scripted) -> None:
    text = b'{"messages": [{"role": "user", "content": "' + b"x" * 60_000 + b'"}]}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(CHUNKED + chunks + b"0\r\nX-Sum: 1\r\n\r\n")
        assert connection.recv(13) == b"HTTP/1.1 200 "
    assert upstream.last.body == text


@pytest.mark.slow
def test_large_bodies_pass(proxy: Client, upstream: Scripted) -> None:
    body = b'{"messages": [{"role": "user", "content": "' + b"x" * (20 << 20) + b'"}]}'
    reply = proxy.request("POST", "/v1/chat/completions", body)
    assert reply.status == 200
    assert upstream.last.body == body


def test_many_at_once_leave_nothing_behind(proxy: Client) -> None:
    def ask() -> None:
        for _ in range(10):
            assert proxy.post("/v1/chat/completions", {"messages": []}).status == 200

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sign = "\ncontextpilot_requests_in_progress 0.0\n"
    wait_until(lambda: sign in proxy.get("/metrics").body.decode())
    (engine,) = proxy.get("/health").json()["engines"]
    assert engine["in_flight"] == 0
