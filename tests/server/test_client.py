"""Both clients against a real server: every call of the index API."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Client as Http

from contextpilot.block import BlockReader
from contextpilot.client import AsyncClient, Client, ServerError
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.remote import encode_job

BLOCKS = [f"block {name} " * 9 for name in "abcd"]

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
    assert call("sync", message) == {"status": "ok"}
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
    assert http.get("/health").status == 200
    assert http.get("/metrics").status == 200
    for path in ("/requests", "/stats", "/explain/x", "/dashboard/feed", "/nothing"):
        assert http.get(path).status == 401
        assert http.get(path, Authorization="Bearer secret\xe9").status == 401


def test_an_absent_server_is_an_error() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServerError) as caught:
        client.health()
    assert caught.value.status is None
    with pytest.raises(ValueError, match="url must be"):
        Client("localhost:8765")
