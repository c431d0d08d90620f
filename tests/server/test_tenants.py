"""Tenants share nothing; keys, names and prompt text show up nowhere."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from servers import Client, Scripted

from contextpilot.server.proxy.controls import Controls
from contextpilot.server.proxy.tenants import namespace_of
from contextpilot.server.run import JsonFormatter
from contextpilot.server.settings import Settings

CHAT = "/v1/chat/completions"
BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]
Start = Callable[..., Client]


def ask(client: Client, blocks: list[str] = BLOCKS, **headers: str) -> Any:
    body = {"messages": [{"role": "user", "content": "why?"}], "contextpilot": {"contexts": blocks}}
    return client.post(CHAT, body, **headers).result


def test_keys_divide_tenants(proxy: Client) -> None:
    ask(proxy, Authorization="Bearer one")
    other = ask(proxy, BLOCKS[::-1], Authorization="Bearer two")
    assert (other["live_blocks"], other["moved"]) == (0, 0)
    assert ask(proxy, BLOCKS[::-1], Authorization="Bearer one")["live_blocks"] == len(BLOCKS)
    assert ask(proxy, BLOCKS[::-1], X_Api_Key="Bearer one")["live_blocks"] == len(BLOCKS)


def test_nobody_joins_a_tenant_by_naming_it(proxy: Client) -> None:
    ask(proxy, Authorization="Bearer one", X_ContextPilot_Namespace="team")
    narrowed = ask(proxy, Authorization="Bearer one", X_ContextPilot_Namespace="team")
    assert narrowed["live_blocks"] == len(BLOCKS)
    stranger = ask(proxy, Authorization="Bearer two", X_ContextPilot_Namespace="team")
    assert stranger["live_blocks"] == 0
    assert ask(proxy, Authorization="Bearer one")["live_blocks"] == 0


def test_a_trusted_gateway_names_tenants(upstream: Scripted, start: Start) -> None:
    client = start(engine=(upstream.url,), tenants="header")
    ask(client, X_ContextPilot_Namespace="a", Authorization="Bearer one")
    assert ask(client, X_ContextPilot_Namespace="b")["live_blocks"] == 0
    assert ask(client, X_ContextPilot_Namespace="a")["live_blocks"] == len(BLOCKS)


def test_a_header_of_ours_stands_once(upstream: Scripted, start: Start) -> None:
    client = start(engine=(upstream.url,), tenants="header")
    connection = http.client.HTTPConnection(client.url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", CHAT)
        for name in ("gateway", "client"):
            connection.putheader("X-ContextPilot-Namespace", name)
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}")
        reply = connection.getresponse()
        assert (reply.status, b"must be given once" in reply.read()) == (400, True)
    assert upstream.seen == []


def test_a_trailer_is_no_header(upstream: Scripted, start: Start) -> None:
    client = start(engine=(upstream.url,), tenants="header")
    body = json.dumps({"messages": [], "contextpilot": {"contexts": BLOCKS, "query": "why?"}})
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(body), body.encode())
    connection = http.client.HTTPConnection(client.url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", CHAT)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(chunks + b"X-ContextPilot-Namespace: a\r\nX-Api-Key: k\r\n\r\n")
        assert connection.getresponse().status == 200
    assert "x-api-key" not in upstream.last.headers
    assert ask(client, X_ContextPilot_Namespace="a")["live_blocks"] == 0
    assert ask(client)["live_blocks"] == len(BLOCKS)


def test_salts_follow_tenants_both_ways(upstream: Scripted, start: Start) -> None:
    client = start(engine=(upstream.url,), cache_salt=True, salt_secret="pepper", kind="vllm")
    salts = []
    for key, own in (("one", None), ("one", None), ("two", None), ("two", "S"), ("three", "S")):
        body: dict[str, Any] = {"messages": []}
        if own is not None:
            body["cache_salt"] = salts[0]
        client.post(CHAT, body, Authorization=f"Bearer {key}")
        salts.append(upstream.last.json()["cache_salt"])
    assert salts[0] == salts[1]
    assert len(set(salts)) == 4
    assert "one" not in salts[0]


def test_a_salt_that_the_engine_would_ignore_is_refused(upstream: Scripted, start: Start) -> None:
    body = {"messages": [{"role": "user", "content": "why?"}], "max_tokens": 1, "model": "m"}
    salted = start(engine=(upstream.url,), cache_salt=True, kind="sglang")
    refused = salted.post("/v1/messages", body)
    assert (refused.status, refused.json()["type"]) == (400, "error")
    assert "cache_salt" in refused.json()["error"]["message"]
    assert upstream.seen == []
    assert salted.post(CHAT, body).status == 200
    for settings in ({"kind": "vllm", "cache_salt": True}, {"kind": "sglang"}):
        assert start(engine=(upstream.url,), **settings).post("/v1/messages", body).status == 200


SALTED = '{"model": "m", "messages": [], "cache_salt": "chosen"}'


@pytest.mark.parametrize(
    "body",
    [
        SALTED.encode("utf-16"),
        SALTED.encode("utf-32"),
        SALTED.encode("utf-8-sig"),
        SALTED.encode() + b"\xff",
        SALTED.replace("[]", "1" * 5000).encode(),
        SALTED.replace("[]", "[" * 200_000 + "]" * 200_000).encode(),
        f"[{SALTED}]".encode(),
        gzip.compress(SALTED.encode()),
    ],
    ids=["utf-16", "utf-32", "mark", "no-utf-8", "digits", "deep", "list", "gzip"],
)
def test_no_body_passes_by_the_salt(upstream: Scripted, start: Start, body: bytes) -> None:
    client = start(engine=(upstream.url,), cache_salt=True, kind="vllm")
    named = {"Content_Type": "application/json"}
    if body[:2] == b"\x1f\x8b":
        named["Content_Encoding"] = "gzip"
    for path in (CHAT, CHAT + "/", "/v1/completions", "/v1/messages"):
        assert client.request("POST", path, body, **named).status == 400
    for path in (
        *("/v1//chat/completions", "/v1/Chat/Completions//", "/v1/./chat/completions"),
        *("/v1/chat/%2e/completions;a=b", "/v1/completions;", "/v1/%2563hat/completions"),
        *("/v1/./embeddings", "/v1//chat/completions/batch"),
    ):
        assert client.request("POST", path, SALTED.encode(), **named).status == 400
    assert upstream.seen == []
    plain = start(engine=(upstream.url,), kind="vllm")
    assert plain.request("POST", CHAT, body, **named).status == 200  # the engine's to judge


UNPLANNED = ("chat/completions/batch", "embeddings", "score", "rerank", "pooling", "systemone")


def test_prompts_that_are_never_planned_are_salted_too(upstream: Scripted, start: Start) -> None:
    client = start(engine=(upstream.url,), cache_salt=True, kind="vllm")
    salts = set()
    for path in UNPLANNED:
        for key in ("one", "two"):
            sent = '{"input":  "why?"}'
            named = {"Content_Type": "application/json", "Authorization": f"Bearer {key}"}
            assert client.request("POST", f"/v1/{path}", sent.encode(), **named).status == 200
            body = upstream.last.body.decode()
            salts.add(upstream.last.json()["cache_salt"])
            assert body.startswith(sent[:-1])
    assert len(salts) == 2
    num_seen = len(upstream.seen)
    for path in UNPLANNED:
        assert client.request("POST", f"/v1/{path}", SALTED.encode("utf-16")).status == 400
    ignoring = start(engine=(upstream.url,), cache_salt=True, kind="sglang")
    assert ignoring.post("/v1/embeddings", {"input": "why?"}).status == 400
    assert len(upstream.seen) == num_seen
    assert ignoring.get("/v1/models").status == 200
    assert ignoring.post("/v1/messages/count_tokens", {"messages": []}).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_canaries_show_up_nowhere(
    upstream: Scripted, start: Start, caplog: pytest.LogCaptureFixture, log_format: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = start(engine=(upstream.url,))
    secrets = ("CANARYTEXT", "CANARYKEY", "CANARYTENANT", "CANARYQUERY")
    headers = {"Authorization": "Bearer CANARYKEY", "X_ContextPilot_Namespace": "CANARYTENANT"}
    ask(client, [f"CANARYTEXT {i} " * 9 for i in range(4)], **headers)
    document = "<document>CANARYTEXT</document>\n<document>CANARYTEXT two</document>\n"
    message = {"role": "user", "content": document + "CANARYQUERY"}
    client.post(CHAT + "?key=CANARYKEY", {"messages": [message]}, **headers)
    client.post(CHAT, {"messages": "CANARYTEXT", "contextpilot": {"CANARYTEXT": 1}})
    replies = [
        client.post("/reorder", {"contexts": [["CANARYTEXT"], 3], "namespace": "CANARYTENANT"}),
        client.post("/optimize", {"contexts": ["CANARYTEXT"], "query": ["CANARYQUERY"]}),
        client.post("/reorder", {"contexts": ["CANARYTEXT"], "namespace": "CANARYTENANT"}),
    ]
    assert [reply.status for reply in replies] == [422, 422, 200]
    seen = [reply.body.decode() for reply in replies[:2]]
    paths = ("/metrics", "/health", "/stats", "/requests", "/dashboard/feed", "/")
    seen += [client.get(path).body.decode() for path in paths]
    formatter = JsonFormatter() if log_format == "json" else logging.Formatter()
    seen += [formatter.format(record) for record in caplog.records]
    for secret in secrets:
        for text in seen:
            assert secret not in text


def test_json_logs_are_json() -> None:
    record = logging.LogRecord("contextpilot.x", 30, "f", 1, "said %s", ("so",), None)
    content = json.loads(JsonFormatter().format(record))
    assert (content["level"], content["message"]) == ("warning", "said so")


def test_who_holds_most_of_all_conversations_forgets_first(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.budget._MIN_TALKS", 10)
    client = start(max_blocks=400)  # 100 blocks of conversations

    def optimize(namespace: str, conversation: str, texts: list[str]) -> None:
        body = {"contexts": texts, "query": "?", "namespace": namespace}
        assert client.post("/optimize", {**body, "conversation_id": conversation}).status == 200

    def known(namespace: str, conversation: str) -> bool:
        body = {"contexts": BLOCKS[:1], "namespace": namespace, "conversation_id": conversation}
        return bool(client.post("/deduplicate", body).json().get("overlapping_blocks"))

    optimize("small", "talk", BLOCKS)
    optimize("large", "old", BLOCKS)
    for number in range(60):
        texts = [BLOCKS[0], *(f"block {number} {step}" for step in range(8))]
        optimize("large", f"talk {number}", texts)
    assert known("small", "talk")
    assert known("large", "talk 59")
    assert not known("large", "old")


def test_names_without_end_are_not_kept() -> None:
    settings, controls = Settings(), Controls(True, "auto", "all", None)

    def name(model: str) -> str:
        return namespace_of("tenant", settings, controls, {"model": model}, None)

    long = "m" * 1_000_000
    assert len(name(long)) < 1000
    assert len({name(long), name(long + "m"), name(long[:600]), name("\ud800" * 600)}) == 4
    assert name(long) == name("m" * 1_000_000)
