"""Cloud upstreams: what is added where absent, and sync by age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import Client, Scripted, Seen, send_json, wait_until

from contextpilot.engines.detect import EngineKinds
from contextpilot.server.pool.sync_by_age import DEFAULT_TTL_S
from contextpilot.server.settings import Settings

BLOCKS = [f"Document {name}: " + f"facts about {name}. " * 12 for name in "abcdef"]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def body(**members: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "why?"}]
    return {"messages": messages, "contextpilot": {"contexts": BLOCKS}, **members}


def breakpoints(node: Any) -> int:
    if isinstance(node, dict):
        return ("cache_control" in node) + sum(map(breakpoints, node.values()))
    return sum(map(breakpoints, node)) if isinstance(node, list) else 0


def test_openai_gets_a_cache_key_where_absent(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="openai")
    keys = []
    for key in ("Bearer one", "Bearer one", "Bearer two"):
        client.post(CHAT, body(), Authorization=key)
        keys.append(upstream.last.json()["prompt_cache_key"])
    assert keys[0] == keys[1] != keys[2]
    assert set(upstream.last.json()) == {"messages", "prompt_cache_key"}
    assert "x-request-id" not in upstream.last.headers
    (engine,) = client.get("/health").json()["engines"]
    assert (engine["sync"], engine["ttl_s"]) == ("approximate", DEFAULT_TTL_S)
    client.post(CHAT, body(prompt_cache_key="mine"))
    assert upstream.last.json()["prompt_cache_key"] == "mine"
    plain = {"messages": [{"role": "user", "content": "hi"}]}
    client.post(CHAT, plain)
    assert upstream.last.json() == plain


def test_anthropic_gets_breakpoints_where_absent(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="anthropic", anchor="none")
    client.post(MESSAGES, body(system="be brief"))
    first = upstream.last.json()
    assert first["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert 2 <= breakpoints(first) <= 4
    text = "".join(part["text"] for part in first["messages"][0]["content"])
    assert text == "".join(f"[{i}] {t}\n\n" for i, t in enumerate(BLOCKS, 1)) + "why?"
    more = [*BLOCKS[::-1], "news " * 30]
    client.post(MESSAGES, body(system="be brief", contextpilot={"contexts": more}))
    parts = upstream.last.json()["messages"][0]["content"]
    assert parts[0]["text"] == text.removesuffix("why?")
    assert "cache_control" in parts[0]
    assert breakpoints(upstream.last.json()) <= 4


def test_breakpoints_of_the_caller_are_left_alone(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="anthropic")
    own = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]
    client.post(MESSAGES, body(system=own))
    assert breakpoints(upstream.last.json()) == 1
    assert upstream.last.json()["system"] == own


def test_usage_of_both_shapes_is_counted(upstream: Scripted, start: Callable[..., Client]) -> None:
    usages: list[dict[str, Any]] = [
        {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60}},
        {"input_tokens": 10, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 10},
        {"prompt_tokens": 100, "prompt_tokens_details": None},
    ]

    async def answer(seen: Seen, send: Any) -> None:
        quoted = 'he said "cached_tokens": 999'
        await send_json(send, {"text": quoted, "usage": usages[len(upstream.seen) - 1]})

    upstream.answer = answer
    client = start(engine=(upstream.url,), kind="openai")
    found = []
    for _ in usages:
        told = client.post(CHAT, body()).result
        explain = "/explain/" + told["request_id"]
        wait_until(lambda path=explain: client.get(path).json()["status"] == 200)
        record = client.get(explain).json()
        found.append((record["prompt_tokens"], record["cached_tokens"]))
    assert found == [(100, 60), (100, 80), (100, None)]
    text = client.get("/metrics").body.decode()
    assert "\ncontextpilot_prefix_cache_queries_total 200.0\n" in text
    assert "\ncontextpilot_prefix_cache_hits_total 140.0\n" in text


def test_longer_retention_is_asked_for_where_the_client_says_nothing(
    upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind="openai", long_retention=True)
    client.post(CHAT, body())
    assert upstream.last.json()["prompt_cache_retention"] == "24h"
    client.post(CHAT, body(prompt_cache_retention="in_memory"))
    assert upstream.last.json()["prompt_cache_retention"] == "in_memory"
    plain = {"messages": [{"role": "user", "content": "hi"}]}
    client.post(CHAT, plain)
    assert upstream.last.json() == plain
    client.post(CHAT, plain)  # it recurs
    assert upstream.last.json() == {**plain, "prompt_cache_retention": "24h"}
    client = start(engine=(upstream.url,), kind="anthropic", long_retention=True)
    client.post(MESSAGES, body(system="be brief"))
    mark = {"type": "ephemeral", "ttl": "1h"}
    assert upstream.last.json()["system"][0]["cache_control"] == mark
    assert str(upstream.last.json()).count(str(mark)) == breakpoints(upstream.last.json()) >= 2
    again = {"system": "be brief", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(2):
        client.post(MESSAGES, again)
    assert upstream.last.json()["system"][0]["cache_control"] == mark


@pytest.mark.parametrize(
    ("kind", "path", "header", "value"),
    [
        ("openai", CHAT, "authorization", "Bearer ours"),
        ("anthropic", MESSAGES, "x-api-key", "ours"),
    ],
)
def test_the_server_s_key_stands_for_the_index_token_alone(
    kind: str, path: str, header: str, value: str, upstream: Scripted, start: Callable[..., Client]
) -> None:
    client = start(engine=(upstream.url,), kind=kind, index_token="token", upstream_key="ours")
    given = {"messages": [{"role": "user", "content": "hi"}]}
    for sent in ({"Authorization": "Bearer token"}, {"X_Api_Key": "token"}):
        client.post(path, given, **sent)
        assert upstream.last.headers[header] == value
        assert "token" not in str(upstream.last.headers).replace("ContextPilot", "")
    client.post(path, given, Authorization="Bearer theirs")
    assert upstream.last.headers["authorization"] == "Bearer theirs"
    assert "x-api-key" not in upstream.last.headers
    client.post(path, given)
    assert not {"authorization", "x-api-key"} & upstream.last.headers.keys()
    client.post(path, given, Authorization="Bearer token2")
    assert "ours" not in str(upstream.last.headers)


def test_a_key_without_a_token_is_refused_and_never_shown() -> None:
    with pytest.raises(ValueError, match="upstream_key needs index_token"):
        Settings(upstream_key="hidden")
    assert "hidden" not in repr(Settings(upstream_key="hidden", index_token="a"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.anthropic.com", "anthropic"),
        ("https://api.minimax.io/anthropic", "anthropic"),
        ("https://api.z.ai/api/anthropic/", "anthropic"),
        ("https://api.openai.com/", "openai"),
        ("https://example.org/anthropics", None),
    ],
)
def test_clouds_are_known_by_their_address(url: str, name: str | None) -> None:
    async def get(_: str) -> tuple[int, bytes]:
        raise AssertionError("asked")

    kind = EngineKinds(get).known(url)
    assert (kind.name if kind is not None else None) == name
