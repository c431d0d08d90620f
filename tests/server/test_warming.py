"""An engine that comes back empty is warmed with what recent requests shared, and nobody waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from caching_engine import CachingEngine
from servers import Client, Scripted, serving, wait_until

from contextpilot.engines.usage import Usage
from contextpilot.prompt.apis.paths import shape_of
from contextpilot.server.proxy.controls import Controls
from contextpilot.server.proxy.incoming import Incoming
from contextpilot.server.proxy.outcome import Answered
from contextpilot.server.proxy.recent_prompts import RecentPrompts
from contextpilot.server.proxy.warming import cut_after
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

TEXTS = {name: " ".join(f"{name}{i}" for i in range(60)) for name in "abcdefgh"}
CONTEXTS = ["abc", "bad", "aeb", "fg", "gfh"]
SYSTEM = {"role": "system", "content": "Answer from the documents."}


def found(names: str) -> dict[str, Any]:
    """A request with documents in its text, as the proxy finds them."""
    marked = "".join(f'<document index="{i}">{TEXTS[n]}</document>' for i, n in enumerate(names, 1))
    text = f"<documents>{marked}</documents>\n\nWhat is {names}?"
    return {"model": "m", "messages": [SYSTEM, {"role": "user", "content": text}]}


def given(names: str) -> dict[str, Any]:
    """A request whose documents are handed over."""
    question = {"role": "user", "content": f"What is {names}?"}
    handed_over = {"contexts": [TEXTS[name] for name in names]}
    return {"model": "m", "messages": [SYSTEM, question], "contextpilot": handed_over}


@pytest.mark.parametrize("request_of", [found, given])
def test_what_was_shared_is_there_again_before_anybody_asks(upstream: Scripted, request_of) -> None:
    engine = CachingEngine(10_000)

    async def answer(seen: Any, send: Any) -> None:
        engine.index_url = client.url
        await engine.answer(seen, send)

    upstream.answer = answer
    settings = Settings(engine=(upstream.url,), port=0, kind="other", warm_keep_s=3600)
    server = make_server(settings)
    with serving(server) as url:
        client = Client(url)
        key = {"authorization": "Bearer secret", "X_ContextPilot_Scope": "all"}
        for names in CONTEXTS:
            assert client.post("/v1/chat/completions", request_of(names), **key).status == 200
        before = len(upstream.seen)
        assert before == len(CONTEXTS)
        engine.restart()
        wait_until(lambda: len(upstream.seen) == before + 2)
        sent = [seen.json() for seen in upstream.seen[before:]]
        assert all(body["max_tokens"] == 1 for body in sent)
        assert all("authorization" not in seen.headers for seen in upstream.seen[before:])
        assert sent[0]["messages"][-1]["content"].endswith((TEXTS["a"], TEXTS["b"]))
        wait_until(lambda: len(engine.hits) == before + 2 and engine.has_told)
        reply = client.post("/v1/chat/completions", request_of("hdba"), **key)
        assert reply.result["live_blocks"] == 2, reply.result
        assert engine.hits[-1] >= 100
        text = upstream.last.json()["messages"][-1]["content"]
        assert text.index(TEXTS["h"]) > text.index(TEXTS["a"])


def test_without_the_option_nothing_is_kept_and_nothing_sent(upstream: Scripted) -> None:
    server = make_server(Settings(engine=(upstream.url,), port=0, kind="other"))
    with serving(server) as url:
        client = Client(url)
        for names in CONTEXTS:
            client.post("/v1/chat/completions", given(names))
        warming = server.config.app.state.warming  # type: ignore[union-attr]
        assert len(warming.recent) == 0


def answered(body: bytes, status: str = "planned") -> Answered:
    headers = [(b"authorization", b"Bearer secret"), (b"x-contextpilot-mode", b"xml")]
    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": headers, "extra": 1}
    controls = Controls(True, "auto", "all", None)
    request = Incoming(scope, body, controls, "tenant", namespace="n")
    return Answered(request, body, {"status": status}, 200, Usage(None, None))


def test_requests_go_when_they_are_old_or_too_much_and_keys_are_never_kept() -> None:
    now = [0.0]
    recent = RecentPrompts(10.0, max_bytes=25, clock=lambda: now[0])
    for at in range(4):
        now[0] = float(at)
        recent.note(answered(b"x" * 10))
    assert [kept.at for kept in recent.younger_than(10.0)] == [2.0, 3.0]
    assert recent.younger_than(10.0)[0].scope["headers"] == [(b"x-contextpilot-mode", b"xml")]
    recent.note(answered(b"x" * 26))
    assert len(recent) == 2, "what is larger than all that is kept drives nothing out"
    recent.note(answered(b"x", "unplanned"))
    assert len(recent) == 2
    now[0] = 12.0
    recent.expire()
    assert [kept.at for kept in recent.younger_than(10.0)] == [3.0]
    assert recent.younger_than(9.0) == []
    now[0] = 13.0
    recent.expire()
    assert len(recent) == 0


def test_a_body_is_cut_after_texts_that_follow_each_other() -> None:
    shape = shape_of("POST", "/v1/chat/completions")
    assert shape is not None
    body = json.loads(json.dumps(found("abc")))
    body["messages"].append({"role": "assistant", "content": "yes"})
    cut = cut_after(shape, body, [TEXTS["a"], TEXTS["b"]])
    assert cut is not None
    assert [message["role"] for message in cut["messages"]] == ["system", "user"]
    assert cut["messages"][1]["content"].endswith(TEXTS["b"])
    assert len(body["messages"]) == 3, "what was given stays"
    assert cut_after(shape, body, [TEXTS["b"], TEXTS["a"]]) is None
