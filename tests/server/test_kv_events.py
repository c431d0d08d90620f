"""The proxy before an engine that publishes KV events: its requests are followed beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kv_publisher import Publisher, removed, stored, until
from servers import Client, Scripted, Seen, send_json, serving

from contextpilot.engines import asked_layers
from contextpilot.server.pool import kv_follower
from contextpilot.server.run import make_server
from contextpilot.server.settings import Settings

MESSAGE = {"role": "user", "content": "q"}
TOKENS = [1, 1, 1, 1, 2, 2, 2, 2, 3]
CONTEXTS = {"contexts": ["a block of some words", "another block of words"], "query": "why?"}


async def answered(seen: Seen, send: Any) -> None:
    usage = {"prompt_tokens": len(TOKENS), "completion_tokens": 1, "total_tokens": 10}
    message = {"role": "assistant", "content": "x"}
    await send_json(send, {"choices": [{"index": 0, "message": message}], "usage": usage})


def engine_with(**asides: Any) -> Scripted:
    """Return an engine with these answers outside /v1."""
    return Scripted(answered, asides={f"/{path}": content for path, content in asides.items()})


@contextmanager
def proxy(publisher: Publisher, engine: Any, kind: str = "vllm") -> Iterator[Client]:
    """Run our server before an engine; yields a client."""
    with serving(engine) as url:
        settings = Settings(engine=(url,), kind=kind, port=0, kv_events=(publisher.address,))
        with serving(make_server(settings)) as ours:
            yield Client(ours)


def ask(client: Client, **headers: str) -> str:
    """Send a request with blocks; return its id."""
    body = {"model": "m", "messages": [MESSAGE], "contextpilot": CONTEXTS}
    reply = client.post("/v1/chat/completions", body, **headers)
    assert reply.status == 200
    found: str = reply.result["request_id"]
    return found


def state(client: Client) -> Any:
    return client.get("/health").json()["engines"][0]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


def test_a_request_is_followed_without_anything_in_the_engine(publisher: Publisher) -> None:
    with proxy(publisher, engine_with(tokenize={"tokens": TOKENS})) as client:
        assert publisher.is_subscribed()
        ask(client)
        publisher.publish(stored([1, 2], TOKENS[:8]))
        until(lambda: state(client)["kv_events"]["num_requests"] == 1)
        until(lambda: state(client)["sync"] == "exact")
        [reporter] = client.get("/health").json()["sync"].values()
        assert (reporter["kind"], reporter["block_size"]) == ("vllm", 4)
        evicted = state(client)["evicted"]
        publisher.publish(removed(1))
        until(lambda: state(client)["evicted"] > evicted)


@pytest.mark.parametrize(
    "asides",
    [{}, {"tokenize": {"tokens": TOKENS[:-1]}}, {"tokenize": {"tokens": "x"}}],
    ids=["no answer", "another length", "no tokens"],
)
def test_what_the_engine_does_not_tokenize_is_not_believed(
    publisher: Publisher, asides: dict[str, Any]
) -> None:
    with proxy(publisher, engine_with(**asides)) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        ask(client)
        until(lambda: state(client)["kv_events"]["num_unmapped"] == 1)
        assert state(client)["kv_events"]["num_requests"] == 0


def test_requests_never_wait_for_tokens(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_follower, "MAX_WAITING", 3)
    engine, answers = engine_with(tokenize={"tokens": TOKENS}), threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        while scope.get("path") == "/tokenize" and not answers.is_set():
            await asyncio.sleep(0.01)
        await engine(scope, receive, send)

    with proxy(publisher, slow) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        for _ in range(12):
            ask(client)
        assert state(client)["kv_events"]["num_dropped"] == 12 - 2 - 3
        answers.set()
        until(lambda: state(client)["kv_events"]["num_requests"] == 5)
        assert state(client)["kv_events"]["num_unmapped"] == 7


def test_hooks_speak_where_they_report(publisher: Publisher) -> None:
    with proxy(publisher, engine_with(tokenize={"tokens": TOKENS})) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        request = ask(client)
        until(lambda: state(client)["kv_events"]["num_requests"] == 1)
        until(lambda: state(client)["kv_events"]["role"] == "tells")
        event = {"event": "cached", "request": request, "tokens": 8, "prompt_tokens": 9}
        message = {
            "version": 1,
            "engine": "hook",
            "epoch": "e",
            "seq": 0,
            "kind": "vllm",
            "block_size": 4,
            "snapshot": True,
            "events": [event],
        }
        assert client.post("/sync", message).json()["status"] == "ok"
        until(lambda: state(client)["kv_events"]["role"] == "checks")
        again = {**message, "seq": 1}
        until(lambda: client.post("/sync", again).json()["status"] == "ok")
        until(lambda: state(client)["kv_events"]["num_agreed"] == 1)
        assert set(client.get("/health").json()["sync"]) == {"hook"}


def scheduler(swa: int | None = None, **more: Any) -> dict[str, Any]:
    """Return what SGLang says of one of its schedulers."""
    return {"memory_usage": {"token_capacity": 9, "token_capacity_swa": swa}, **more}


OLD_STATE: dict[str, Any] = {"memory_usage": {"token_capacity": 9}}


@pytest.mark.parametrize(
    ("version", "states", "why"),
    [
        ("0.5.23", [scheduler(), scheduler(swa=7)], "a sliding window, which its events"),
        ("0.5.23", [scheduler(uses_mamba_radix_cache=True)], "states, which its events"),
        ("0.5.13", [{**OLD_STATE, "max_mamba_cache_size": 48}], "states, which its events"),
        ("0.5.13", [OLD_STATE], "does not say whether layers have a window"),
        ("0.5.23", [], "its layers are unknown"),
        ("0.5.23", [scheduler()], "pairs of tokens"),
        ("0.5.23", [scheduler(), scheduler()], ""),
        ("0.5.13", [{**OLD_STATE, "disable_hybrid_swa_memory": True}], ""),
        ("0.5.11", [OLD_STATE], ""),
    ],
)
def test_of_layers_that_events_do_not_tell_nothing_is_believed(
    publisher: Publisher, version: str, states: list[Any], why: str
) -> None:
    said = {"version": version, "internal_states": states}
    if "pairs" in why:
        said["speculative_algorithm"] = "EAGLE3"
    engine = engine_with(tokenize={"tokens": TOKENS}, server_info=said)
    with proxy(publisher, engine, "sglang") as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        until(lambda: state(client)["kv_events"]["num_messages"] == 1)
        until(lambda: "not known yet" not in state(client)["kv_events"]["refused"])
        ask(client)
        if why:
            assert why in state(client)["kv_events"]["refused"]
            assert state(client)["kv_events"]["state"] == "off"
            assert state(client)["sync"] != "exact"
        else:
            until(lambda: state(client)["sync"] == "exact")


def test_an_engine_that_began_anew_is_asked_anew() -> None:
    publisher = Publisher()
    said: dict[str, Any] = {"version": "0.5.23", "internal_states": [scheduler()]}
    engine = engine_with(tokenize={"tokens": TOKENS}, server_info=said)
    with proxy(publisher, engine, "sglang") as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        ask(client)
        until(lambda: state(client)["sync"] == "exact")
        said["internal_states"] = [scheduler(swa=7)]
        publisher.close()
        until(lambda: state(client)["kv_events"]["state"] == "off")
        again = Publisher((publisher.port, publisher.replay_port))
        assert again.is_subscribed()
        again.publish(stored([7, 8], TOKENS[:8]))
        until(lambda: "sliding window" in state(client)["kv_events"]["refused"])
    again.close()


def test_an_engine_that_wants_a_key_is_asked_with_a_request_s(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked_layers, "AGAIN_AFTER_S", 0.0)
    said = {"version": "0.5.23", "internal_states": [scheduler()]}
    engine = engine_with(tokenize={"tokens": TOKENS}, server_info=said)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/server_info" and (
            (b"authorization", b"Bearer k") not in scope["headers"]
        ):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await engine(scope, receive, send)

    with proxy(publisher, guarded, "sglang") as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        until(lambda: "answers 401" in state(client)["kv_events"]["refused"])
        ask(client, authorization="Bearer k")
        until(lambda: state(client)["sync"] == "exact")


@pytest.mark.parametrize(
    ("metrics", "drafts"),
    [
        ("vllm:num_requests_running 0\n", False),
        ("vllm:num_requests_running 0\nvllm:spec_decode_num_drafts_total 0\n", True),
        ("python_info 1\n", True),
        ({}, True),
    ],
    ids=["none", "some", "not counted", "nonsense"],
)
def test_whether_layers_draft_is_asked(publisher: Publisher, metrics: Any, drafts: bool) -> None:
    with proxy(publisher, engine_with(tokenize={"tokens": TOKENS}, metrics=metrics)) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        until(lambda: state(client)["kv_events"]["num_messages"] == 1)
        until(lambda: state(client)["kv_events"]["drafts"] == drafts)
        ask(client)
        until(lambda: state(client)["sync"] == "exact")


def test_prompts_and_keys_are_not_logged(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with proxy(publisher, engine_with()) as client:
        assert publisher.is_subscribed()
        ask(client)
        until(lambda: state(client)["kv_events"]["num_unmapped"] == 1)
    assert not any("another block" in text for text in caplog.messages)


@pytest.mark.parametrize("path", ["messages", "responses"])
def test_requests_of_other_apis_are_followed_too(publisher: Publisher, path: str) -> None:
    engine, asked = engine_with(tokenize={"tokens": TOKENS}), list[str]()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope.get("path", ""))
        await engine(scope, receive, send)

    with proxy(publisher, watched) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        said = {"input": "q"} if path == "responses" else {"messages": [MESSAGE], "max_tokens": 1}
        body = {"model": "m", **said, "contextpilot": CONTEXTS}
        assert client.post(f"/v1/{path}", body).status == 200
        until(lambda: state(client)["kv_events"]["num_requests"] == 1)
    assert asked.count("/tokenize") == 1


def test_an_engine_that_joins_brings_its_events(publisher: Publisher) -> None:
    engine = engine_with(tokenize={"tokens": TOKENS})
    with serving(engine) as url, serving(make_server(Settings(kind="vllm", port=0))) as ours:
        client = Client(ours)
        joining = {"url": url, "name": "later", "kv_events": publisher.address}
        assert client.post("/engines", joining).status == 201
        assert publisher.is_subscribed()
        until(lambda: state(client)["up"])
        publisher.publish(stored([1, 2], TOKENS[:8]))
        ask(client)
        until(lambda: state(client)["kv_events"]["num_requests"] == 1)
        assert client.request("DELETE", "/engines/later").status == 200
        assert client.post("/engines", {"url": url, "name": "again"}).status == 201
        assert state(client)["kv_events"] is None


@pytest.mark.parametrize(
    ("kv_events", "reason"),
    [
        ("http://127.0.0.1:5557", "kv_events must be like"),
        ("tcp://127.0.0.1:1,tcp://127.0.0.1:2", "kv_events must be one address, not 2"),
        ("tcp://127.0.0.1:1,tokenizer=x", "only be given at startup"),
    ],
    ids=["no address", "two", "tokenizer"],
)
def test_an_engine_with_no_place_for_events_does_not_join(kv_events: str, reason: str) -> None:
    with serving(make_server(Settings(kind="vllm", port=0))) as ours:
        client = Client(ours)
        reply = client.post("/engines", {"url": "http://127.0.0.1:9", "kv_events": kv_events})
        assert reply.status == 422
        assert reason in str(reply.json())
        assert client.get("/health").json()["engines"] == []


def test_more_addresses_than_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="once per engine"):
        Settings(kv_events=("tcp://127.0.0.1:5557",))
    with pytest.raises(ValueError, match="host by name"):
        Settings(engine=("http://127.0.0.1:1",), kv_events=("tcp://*:5557",))


def test_the_key_of_a_request_goes_with_it(publisher: Publisher) -> None:
    engine, keys = engine_with(tokenize={"tokens": TOKENS}), []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/tokenize":
            keys.append(dict(scope["headers"]).get(b"authorization"))
        await engine(scope, receive, send)

    with proxy(publisher, watched) as client:
        assert publisher.is_subscribed()
        publisher.publish(stored([1, 2], TOKENS[:8]))
        ask(client, Authorization="Bearer secret")
        until(lambda: state(client)["kv_events"]["num_requests"] == 1)
    assert keys == [b"Bearer secret"]
