"""The proxy on real sockets in front of a scripted upstream: what goes on, what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from servers import Client, Scripted, Seen, Start, send_json, wait_until

CHAT = "/v1/chat/completions"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]


def chat(**members: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "why?"}], **members}


def test_explicit_blocks_are_written_planned_and_named(proxy: Client, upstream: Scripted) -> None:
    first = proxy.post(CHAT, chat(contextpilot={"contexts": BLOCKS}))
    second = proxy.post(CHAT, chat(contextpilot={"contexts": BLOCKS[::-1]}, temperature=0.5))
    assert first.status == second.status == 200
    one, two = (seen.json()["messages"][0]["content"] for seen in upstream.seen)
    shared = "".join(f"[{i}] {text}\n\n" for i, text in enumerate(BLOCKS, start=1))
    assert one == shared + "why?"
    assert two.startswith(shared)
    assert two.endswith("why?")
    assert "contextpilot" not in upstream.last.json()
    assert upstream.last.json()["temperature"] == 0.5
    assert first.result["live_blocks"] == 0
    assert second.result["live_blocks"] == len(BLOCKS)
    assert upstream.last.headers["x-request-id"] == second.result["request_id"]


def test_query_follows_given_messages(proxy: Client, upstream: Scripted) -> None:
    system = {"role": "system", "content": "be brief"}
    proxy.post(
        CHAT,
        {"messages": [system], "contextpilot": {"contexts": BLOCKS[:2], "query": "and now?"}},
    )
    messages = upstream.last.json()["messages"]
    assert messages[0] == system
    assert messages[1]["role"] == "user"
    assert messages[1]["content"].endswith("and now?")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "tiny",  "messages":[{"role":"user","content":"hi \\u00e9"}], "x": 1e0}',
        b'{"messages": "not a list"}',
        b'{"a": 1, "a": 2, "messages": []}',
        b"not JSON \xff",
        b"[1, 2",
        b"",
        b"[" * 100_000,
    ],
)
def test_unplanned_bodies_go_on_byte_for_byte(
    proxy: Client, upstream: Scripted, body: bytes
) -> None:
    reply = proxy.request("POST", CHAT, body, Content_Type="application/json", X_Own="v\xe9")
    assert reply.status == 200
    assert upstream.last.body == body
    assert upstream.last.headers["x-own"] == "v\xe9"
    assert reply.result["status"] == "unplanned"


def test_planned_bodies_change_nowhere_else(proxy: Client, upstream: Scripted) -> None:
    body = (
        b'{ "n" : 1.0, "big":1e400, "k": 1, "k" : 2, "messages": [ {"content": "why?", "x":'
        b' "\\u00e9\\/", "role": "user"} ],"tools":[{"a" :  1}] , "contextpilot":'
        b'{"contexts": ["one one one one", "two two two two"]} }'
    )
    proxy.request("POST", CHAT, body, Content_Type="application/json")
    sent = upstream.last.body
    for kept in (b'"n" : 1.0', b'"big":1e400', b'"k": 1, "k" : 2'.split(b",")[0], b'"k" : 2'):
        assert kept in sent
    assert b'"x": "\\u00e9\\/"' in sent
    assert b'"tools":[{"a" :  1}]' in sent
    assert b"contextpilot" not in sent


def test_everything_else_is_passed_through(proxy: Client, upstream: Scripted) -> None:
    reply = proxy.get("/v1/models?limit=2&after=a%2Fb")
    assert upstream.last.target == "/v1/models?limit=2&after=a%2Fb"
    assert upstream.last.method == "GET"
    assert reply.json() == {"ok": True}
    proxy.request("DELETE", "/v1/files/f%20g")
    assert (upstream.last.method, upstream.last.target) == ("DELETE", "/v1/files/f%20g")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"contexts": "abc"}, "contextpilot.contexts"),
        ({"contexts": [1, "a"]}, "contextpilot.contexts"),
        ({"contexts": [], "query": 3}, "contextpilot.query"),
        ({"contexts": [], "qery": "x"}, "contextpilot.qery"),
        ({"contexts": [], "options": {"pin": 1}}, "contextpilot.options"),
        ([], "contextpilot"),
    ],
)
def test_malformed_fields_are_refused_in_the_shape_of_the_api(
    proxy: Client, upstream: Scripted, field: Any, message: str
) -> None:
    reply = proxy.post(CHAT, chat(contextpilot=field))
    assert reply.status == 400
    assert reply.json()["error"]["param"] == message
    assert reply.json()["error"]["type"] == "invalid_request_error"
    reply = proxy.post("/v1/messages", chat(contextpilot=field))
    assert reply.status == 400
    assert reply.json()["type"] == "error"
    assert message in reply.json()["error"]["message"]
    assert not upstream.seen


def test_controls_switch_off_and_are_checked(proxy: Client, upstream: Scripted) -> None:
    body = chat(contextpilot={"contexts": BLOCKS})
    off = proxy.post(CHAT, body, X_ContextPilot_Enabled="false")
    assert upstream.last.json() == body
    assert not [name for name in upstream.last.headers if name.startswith("x-contextpilot")]
    assert off.result == {"status": "passed"}
    bad = proxy.post(CHAT, body, X_ContextPilot_Mode="guess")
    assert bad.status == 400
    assert bad.json()["error"]["param"] == "X-ContextPilot-Mode"


def test_the_clients_request_id_stays_its_own(proxy: Client, upstream: Scripted) -> None:
    async def echo(seen: Seen, send: Any) -> None:
        headers = [(b"x-request-id", seen.headers["x-request-id"].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    upstream.answer = echo
    reply = proxy.post(CHAT, chat(contextpilot={"contexts": BLOCKS}), X_Request_Id="mine")
    assert upstream.last.headers["x-request-id"] == "mine-" + reply.result["request_id"]
    assert reply.headers["x-request-id"] == "mine"


def test_streams_arrive_piece_by_piece(proxy: Client, upstream: Scripted) -> None:
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def stream(seen: Seen, send: Any) -> None:
        loops.append(asyncio.get_running_loop())
        headers = [(b"content-type", b"text/event-stream"), (b"x-engine", b"yes")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    upstream.answer = stream
    with proxy.open("POST", CHAT, json.dumps(chat(stream=True)).encode()) as response:
        assert response.headers["x-engine"] == "yes"
        assert response.read1() == b"data: 1\n\n"
        loops[0].call_soon_threadsafe(go_on.set)
        assert response.read() == b"data: 2\n\n"


def test_a_client_that_goes_before_the_answer_stops_the_engine(
    proxy: Client, upstream: Scripted
) -> None:
    async def silent(seen: Seen, send: Any) -> None:
        await asyncio.sleep(60)

    upstream.answer = silent
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        )
        wait_until(lambda: bool(upstream.seen))
    assert upstream.last.gone.wait(10)


def test_a_client_that_goes_within_the_stream_stops_the_engine(
    proxy: Client, upstream: Scripted
) -> None:
    async def endless(seen: Seen, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.01)

    upstream.answer = endless
    with proxy.open("POST", CHAT, json.dumps(chat()).encode()) as response:
        assert response.read(1) == b"x"
    assert upstream.last.gone.wait(10)


@contextlib.contextmanager
def engine_that_breaks_off(framing: bytes) -> Iterator[str]:
    """An engine that closes every connection after the first piece of its answer."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError), server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing)

    thread = threading.Thread(target=serve)
    thread.start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()
        thread.join()


def read_to_end(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
SIZED = b"Content-Length: 100\r\n\r\nhalf"


@pytest.mark.parametrize("framing", [CHUNKED, SIZED])
def test_a_stream_that_breaks_off_ends_broken(
    start: Start, framing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with engine_that_breaks_off(framing) as url:
        proxy = start(engine=(url,))
        with (
            proxy.open("POST", CHAT, b"{}") as response,
            pytest.raises(http.client.IncompleteRead) as end,
        ):
            response.read()
        assert end.value.partial == b"half"
        metrics = proxy.get("/metrics").body.decode()
    assert "contextpilot_broken_answers_total 1" in metrics
    assert "contextpilot_client_disconnects_total 0" in metrics
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_broken_stream_is_no_whole_one_to_an_old_client(start: Start) -> None:
    with engine_that_breaks_off(CHUNKED) as url:
        proxy = start(engine=(url,))
        address = urllib.parse.urlsplit(proxy.url)
        assert address.hostname is not None
        with socket.create_connection((address.hostname, address.port or 0)) as connection:
            head = f"POST {CHAT} HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"
            connection.sendall(head.encode())
            with pytest.raises(ConnectionResetError):
                read_to_end(connection)


def test_errors_of_the_engine_pass_through(proxy: Client, upstream: Scripted) -> None:
    async def refuse(seen: Seen, send: Any) -> None:
        await send_json(send, {"error": {"message": "no such model"}}, 404)

    upstream.answer = refuse
    reply = proxy.post(CHAT, chat())
    assert (reply.status, reply.json()) == (404, {"error": {"message": "no such model"}})


def test_an_absent_engine_is_an_error_of_the_gateway(start: Any) -> None:
    client = start(engine=("http://127.0.0.1:9",))
    reply = client.post(CHAT, chat())
    assert reply.status == 502
    assert reply.json()["error"]["type"] == "server_error"
    reply = client.post("/v1/messages", chat())
    assert reply.json()["error"]["type"] == "api_error"


def test_bodies_over_the_bound_are_refused(upstream: Scripted, start: Any) -> None:
    client = start(engine=(upstream.url,), max_body_bytes=1000)
    reply = client.post(CHAT, chat(x="y" * 2000))
    assert reply.status == 413
    assert "max_body_bytes" in reply.json()["error"]["message"]


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    "place",
    [
        "prompt.conversation.prepare.look",
        "server.proxy.outgoing.splice",
        "server.pool.member.Engine.plan",
    ],
)
def test_a_failure_of_planning_sends_the_request_unplanned(
    proxy: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(f"contextpilot.{place}", broken)
    text = "".join(f"<document>{block}</document>\n" for block in BLOCKS)
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    reply = proxy.request("POST", CHAT, body)
    assert reply.status == 200
    assert reply.result == {"status": "unplanned", "reason": "planning failed"}
    assert upstream.last.body == body
    assert "\ncontextpilot_plan_failures_total 1.0\n" in proxy.get("/metrics").body.decode()


def test_blocks_handed_over_are_written_even_if_planning_fails(
    proxy: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.server.pool.member.Engine.plan", broken)
    reply = proxy.post(CHAT, chat(contextpilot={"contexts": BLOCKS}))
    assert reply.result["status"] == "unplanned"
    content = upstream.last.json()["messages"][0]["content"]
    assert content == "".join(f"[{i}] {t}\n\n" for i, t in enumerate(BLOCKS, 1)) + "why?"
