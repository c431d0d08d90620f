"""What a stranger can send harms nobody: names, pages, paths, bodies that fill the memory."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import Client, Scripted, Start, answers_after, free_port, wait_until

from contextpilot.server.run import guarded
from contextpilot.server.settings import Settings

CHAT = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'


@pytest.mark.parametrize("path", ["/requests", "/reset", "/health", CHAT, "/v1/models", "/"])
def test_a_name_that_is_not_ours_is_refused(start: Start, upstream: Scripted, path: str) -> None:
    client = start(engine=(upstream.url,))
    wait_until(lambda: client.get("/health").status == 200)
    for method in ("GET", "POST"):
        reply = client.request(
            method, path, b"{}", Host="attacker.example", Content_Type="application/json"
        )
        assert reply.status == 403
        assert "--allowed-host" in reply.json()["error"]["message"]
    assert upstream.seen == []


def test_no_route_goes_by_a_name_that_is_not_ours(start: Start) -> None:
    client = start(index_token="s3cret")
    paths = [
        *client.get("/openapi.json").json()["paths"],
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
    ]
    paths += ["/dashboard/feed", "/dashboard/tree", "/dashboard/app.js", "/nowhere"]
    assert len(paths) > 20
    named = {"Host": "attacker.example:8765", "Authorization": "Bearer s3cret"}
    for path, method in itertools.product(paths, ("GET", "POST", "DELETE", "OPTIONS", "HEAD")):
        assert client.request(method, path, **named).status == 403, (method, path)


def test_a_name_may_be_allowed(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,), allowed_host=("llm.example",))
    named = {"Host": "llm.example:8765", "Content_Type": "application/json"}
    assert client.request("POST", CHAT, BODY, **named).status == 200


def test_a_page_of_another_place_posts_nothing_unasked(start: Start, upstream: Scripted) -> None:
    client = start(engine=(upstream.url,))
    page = {"Origin": "https://page.example"}
    for path in (CHAT, "/v1/files", "/reset", "/evict", "/engines"):
        assert client.request("POST", path, BODY, Content_Type="text/plain", **page).status == 403
        assert client.request("POST", path, BODY, **page).status == 403
    assert upstream.seen == []
    assert client.request("POST", CHAT, BODY, Content_Type="application/json", **page).status == 200
    assert client.request("POST", CHAT, BODY, Content_Type="text/plain").status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/..%2fmetrics", "/v1/a/..\\..\\metrics"),
        *("/v1/%252e%252e/metrics", "/v1/%25252e%25252e/metrics", "/v1/%2525252525252e./metrics"),
        *("/v1/..;/metrics", "/v1/..;a=b/metrics", "/v1/..%00/metrics", "/v1/..%20/metrics"),
    ],
)
def test_no_path_leads_out_of_v1(start: Start, upstream: Scripted, path: str) -> None:
    assert start(engine=(upstream.url,)).get(path).status == 400
    assert upstream.seen == []


@contextlib.contextmanager
def half_sent(client: Client, path: str, length: int, sent: int) -> Iterator[None]:
    """Hold a connection with a request of which a part of the body is sent."""
    place = urllib.parse.urlsplit(client.url)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as sock:
        sock.sendall(head.encode() + b"x" * sent)
        yield


@pytest.mark.parametrize("path", [CHAT, "/reorder"])
def test_unfinished_bodies_have_a_bound_together(
    start: Start, upstream: Scripted, path: str
) -> None:
    client = start(engine=(upstream.url,), max_body_bytes=1_000_000, max_bodies_bytes=3_000_000)
    wait_until(lambda: client.get("/health").status == 200)
    content = b'{"contexts": [["a"]], "messages": [], "pad": "' + b"x" * 500_000 + b'"}'
    named = {"Content_Type": "application/json"}
    assert client.request("POST", path, content, **named).status in (200, 422)
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(half_sent(client, path, 1_000_000, 900_000))
        wait_until(lambda: gauge(client, "request_bodies_bytes") == 2_700_000)
        wait_until(lambda: client.request("POST", path, content, **named).status == 503)
        reply = client.request("POST", path, content, **named)
        assert reply.headers["retry-after"] == "1"
        assert "max_bodies_bytes" in reply.json()["error"]["message"]
        assert client.request("POST", path, b"{}", **named).status != 503
    wait_until(lambda: client.request("POST", path, content, **named).status in (200, 422))


def test_requests_have_a_bound_together(start: Start, upstream: Scripted) -> None:
    may_end = threading.Event()
    upstream.answer = answers_after(may_end)
    client = start(engine=(upstream.url,), max_requests=2, max_in_flight=1)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(client.request, "POST", CHAT, BODY) for _ in range(2)]
        wait_until(lambda: gauge(client, "requests_in_progress") == 2)
        reply = client.request("POST", CHAT, BODY)
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "max_requests" in reply.json()["error"]["message"]
        may_end.set()
        assert [one.result().status for one in running] == [200, 200]
    assert client.request("POST", CHAT, BODY).status == 200


def gauge(client: Client, name: str) -> float:
    lines = client.get("/metrics").body.decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"contextpilot_{name} ")]
    return float(value)


def test_connections_have_a_bound(start: Start) -> None:
    client = start(max_connections=20)
    place = urllib.parse.urlsplit(client.url)
    with contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(
                socket.create_connection((place.hostname or "", place.port or 0), timeout=60)
            )
        wait_until(lambda: health(client) == 503)
    wait_until(lambda: health(client) == 200)


def test_an_engines_user_and_password_are_sent_and_shown_nowhere(
    start: Start, upstream: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = start(engine=(upstream.url.replace("://", "://me:s%3Ac%40ret@"),))
    wait_until(lambda: health(client) == 200)
    assert client.request("POST", CHAT, BODY).status == 200
    assert upstream.last.headers["authorization"] == "Basic bWU6czpjQHJldA=="  # me:s:c@ret
    client.request("POST", CHAT, BODY, Authorization="Bearer own")
    assert upstream.last.headers["authorization"] == "Bearer own"
    for path in ("/health", "/metrics", "/stats", "/dashboard/feed", "/requests"):
        text = client.get(path).body
        assert b"s%3A" not in text
        assert b"me:s" not in text
    assert "s%3Ac%40ret" not in caplog.text


def test_an_index_that_others_reach_has_a_token_by_default() -> None:
    settings, token = guarded(Settings(host="0.0.0.0"))
    assert len(token) >= 32
    assert settings.index_token == token
    assert guarded(Settings(host="0.0.0.0"))[1] != token
    for closed in (
        Settings(),
        Settings(host="::1"),
        Settings(host="localhost"),
        Settings(host="0.0.0.0", index_token="mine"),
        Settings(host="0.0.0.0", open_index=True),
    ):
        assert guarded(closed) == (closed, "")


@pytest.mark.slow
def test_the_token_of_a_run_is_told_and_asked_for() -> None:
    command = [sys.executable, "-m", "contextpilot", "serve", "--host", "0.0.0.0", "--port"]
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if "CONTEXTPILOT" not in name}
    with subprocess.Popen(
        [*command, str(port)], stderr=subprocess.PIPE, text=True, env=environ
    ) as server:
        assert server.stderr is not None
        try:
            (token,) = [
                line.partition("=")[2].strip()
                for line in itertools.islice(server.stderr, 2)
                if "CONTEXTPILOT_INDEX_TOKEN=" in line
            ]
            client = Client(f"http://127.0.0.1:{port}")
            wait_until(lambda: health(client) in (200, 503))
            assert client.get("/stats").status == 401
            assert client.get("/stats", Authorization=f"Bearer {token}").status == 200
        finally:
            server.terminate()


def health(client: Client) -> int:
    with contextlib.suppress(OSError):
        return client.get("/health").status
    return 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_body_that_no_engine_reads_does_not_pass(
    start: Start, upstream: Scripted, method: str
) -> None:
    client = start(engine=(upstream.url,))
    smuggled = b"POST /slots/0?action=erase HTTP/1.1\r\nHost: x\r\n\r\n"
    assert client.request(method, "/v1/models", smuggled).status == 400
    assert upstream.seen == []
    assert client.request(method, "/v1/models").status == 200
