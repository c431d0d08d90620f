"""Engines join and leave while requests run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from servers import Client, Scripted, Seen, send_json, serving, wait_until

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job, Planned
from contextpilot.server.pool import engine_pool
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.member import name_of
from contextpilot.sync.events import Event, SyncMessage

CHAT = "/v1/chat/completions"
Start = Callable[..., Client]


def body(topic: str) -> dict[str, Any]:
    contexts = [f"Document {topic}{i}: " + f"facts about {topic}{i}. " * 12 for i in range(6)]
    return {"messages": [{"role": "user", "content": "?"}], "contextpilot": {"contexts": contexts}}


@pytest.fixture
def engines() -> Iterator[tuple[Scripted, Scripted]]:
    with ExitStack() as stack:
        both = Scripted(), Scripted()
        for scripted in both:
            scripted.url = stack.enter_context(serving(scripted))
        yield both


def names(client: Client) -> list[str]:
    return [engine["engine"] for engine in client.get("/health").json()["engines"]]


def test_a_server_without_engines_serves_once_one_joins(
    engines: tuple[Scripted, Scripted], start: Start
) -> None:
    client = start()
    assert client.post(CHAT, body("a")).status == 503
    assert client.post("/reorder", {"contexts": ["one", "two"]}).json()["engine"] is None
    joined = client.post("/engines", {"url": engines[0].url + "/"})
    assert (joined.status, joined.json()["engine"]) == (201, name_of(engines[0].url))
    wait_until(lambda: client.get("/health").json()["engines"][0]["up"] is True)
    assert client.post(CHAT, body("a")).status == 200
    assert client.request("DELETE", f"/engines/{name_of(engines[0].url)}").status == 200
    assert client.post(CHAT, body("a")).status == 503
    assert names(client) == []


def test_who_joins_is_known_by_name_and_the_others_keep_their_prefixes(
    engines: tuple[Scripted, Scripted], start: Start
) -> None:
    one, two = engines
    client = start(engine=(one.url,))
    client.post(CHAT, body("a"))
    assert client.post("/engines", {"url": two.url, "name": "gpu-2"}).status == 201
    assert names(client) == [name_of(one.url), "gpu-2"]
    for topic in "ababab":
        client.post(CHAT, body(topic))
    assert (len(one.seen), len(two.seen)) == (4, 3)
    assert 'contextpilot_engine_up{engine="gpu-2"}' in client.get("/metrics").body.decode()
    record = client.get("/requests?limit=1").json()["requests"][0]
    assert record["engine"] == "gpu-2"


@contextmanager
def one_runs_and_one_waits(engine: Scripted, client: Client) -> Iterator[Any]:
    """Yields both answers to come, and what lets the engine answer."""
    may_answer = threading.Event()

    async def later(seen: Seen, send: Any) -> None:
        await asyncio.to_thread(may_answer.wait, 60)
        await send_json(send, {"from": "one"})

    engine.answer = later
    with ThreadPoolExecutor() as threads:
        running = threads.submit(client.post, CHAT, body("a"))
        wait_until(lambda: len(engine.seen) == 1)
        waiting = threads.submit(client.post, CHAT, body("a"))
        wait_until(lambda: client.get("/health").json()["engines"][0]["waiting"] == 1)
        yield running, waiting, may_answer


def test_what_runs_at_an_engine_that_leaves_ends_there_and_what_waits_goes_elsewhere(
    engines: tuple[Scripted, Scripted], start: Start
) -> None:
    one, two = engines
    client = start(engine=(one.url,), max_in_flight=1)
    with one_runs_and_one_waits(one, client) as (running, waiting, may_answer):
        client.post("/engines", {"url": two.url})
        assert client.request("DELETE", f"/engines/{name_of(one.url)}").status == 200
        assert waiting.result().json() == {"ok": True}
        assert names(client) == [name_of(two.url)]
        blocks_at_two = client.get("/stats").json()["num_blocks"]
        may_answer.set()
        assert running.result().json() == {"from": "one"}
    assert len(one.seen) == len(two.seen) == 1
    assert client.get("/stats").json()["num_blocks"] == blocks_at_two > 0


def test_the_last_engine_that_leaves_takes_its_waiting_requests_with_an_error(
    engines: tuple[Scripted, Scripted], start: Start
) -> None:
    one, _ = engines
    client = start(engine=(one.url,), max_in_flight=1)
    with one_runs_and_one_waits(one, client) as (running, waiting, may_answer):
        client.request("DELETE", f"/engines/{name_of(one.url)}")
        assert waiting.result().status == 503
        may_answer.set()
        assert running.result().status == 200


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"url": "127.0.0.1:1"}, "url must be like"),
        ({"url": "ftp://host"}, "url must be like"),
        ({"url": "COM1:", "name": "here"}, "url must be like"),
        ({"url": "http://here:1/?x=", "name": "here"}, "url must be like"),
        ({"url": "http://here:1/#", "name": "here"}, "url must be like"),
        ({"url": "http://here:1/a/%2e%2e/b", "name": "here"}, "url must be like"),
        ({"url": "http://here:1\u2028/", "name": "here"}, "url must be like"),
        ({"url": "http://he\r\nre:1", "name": "here"}, "url must be like"),
        ({"url": "http://here:99999", "name": "here"}, "url must be like"),
        ({"url": "http://here:1", "name": "a b"}, "name must be letters"),
        ({"url": "http://here:1", "name": ""}, "name"),
        ({"url": "http://there:2/"}, "differ in name and URL"),
        ({"url": "http://here:1", "name": "there:2"}, "differ in name and URL"),
        ({"name": "here"}, "url"),
    ],
)
def test_unfit_engines_are_refused(start: Start, content: dict[str, str], field: str) -> None:
    client = start(engine=("http://there:2",))
    reply = client.post("/engines", content)
    assert reply.status == 422
    assert field in reply.json()["error"]["message"]
    assert names(client) == ["there:2"]


def test_engines_have_a_bound(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_pool, "MAX_ENGINES", 3)
    client = start()
    joined = [client.post("/engines", {"url": f"http://there:{n}"}).status for n in range(1, 5)]
    assert joined == [201, 201, 201, 422]
    client.request("DELETE", "/engines/there:1")
    assert client.post("/engines", {"url": "http://there:4"}).status == 201


def test_who_may_change_engines(start: Start) -> None:
    guarded = start(index_token="secret")
    assert guarded.post("/engines", {"url": "http://there:2"}).status == 401
    assert guarded.request("DELETE", "/engines/there:2").status == 401
    allowed = {"Authorization": "Bearer secret"}
    assert guarded.post("/engines", {"url": "http://there:2"}, **allowed).status == 201
    assert guarded.request("DELETE", "/engines/there:2", **allowed).status == 200
    missing = guarded.request("DELETE", "/engines/there:2", **allowed)
    assert (missing.status, missing.json()["error"]["field"]) == (404, "name")
    exposed = start(host="0.0.0.0")
    refused = exposed.post("/engines", {"url": "http://there:2"})
    assert refused.status == 403
    assert "--index-token" in refused.json()["error"]["message"]
    assert exposed.request("DELETE", "/engines/there:2").status == 403


# -- whose events are whose ------------------------------------------------------------------------


def make_pool(*urls: str) -> EnginePool:
    return EnginePool(urls, lambda: Namespaces(10_000, 100, 10))


async def serve(pool: EnginePool, *keys: int, exclude: tuple[str, ...] = ()) -> Planned:
    blocks = [Block(key, f"text {key}", 100, None) for key in keys]
    async with pool.lease("n", blocks, exclude=exclude) as lease:
        (planned,) = lease.plan(Job("n", [blocks], Bounds(), NO_HEAD, [0]))
        lease.confirm()
        return planned


def held(pool: EnginePool, name: str, *keys: int) -> int:
    engine = pool.find(name)
    assert engine is not None
    return engine.namespaces.get("n").planner.index.match(keys)


def test_a_reporter_of_an_engine_that_left_tells_nothing_of_the_one_that_stays() -> None:
    async def main() -> None:
        pool = make_pool("http://a:1", "http://b:2")
        ours = await serve(pool, 1, 2, exclude=("b:2",))
        its = await serve(pool, 3, 4, exclude=("a:1",))
        told = pool.receiver.receive
        told(SyncMessage("at b", "e", 0, (Event("cached", its.request_id, 200),)))
        await pool.remove("b:2")
        told(SyncMessage("at b", "e", 1, (Event("cleared"),)))
        told(SyncMessage("at b", "later", 0, ()))
        assert held(pool, "a:1", 1, 2) == 2
        told(SyncMessage("at a", "e", 0, (Event("cached", ours.request_id, 100),)))
        assert [state["sync"] for state in pool.health()] == ["exact"]
        told(SyncMessage("at a", "e", 1, (Event("cleared"),)))
        assert held(pool, "a:1", 1, 2) == 0

    asyncio.run(main())


def test_an_engine_that_comes_back_is_believed_again() -> None:
    async def main() -> None:
        pool = make_pool("http://a:1")
        first = await serve(pool, 1, 2)
        told = pool.receiver.receive
        told(SyncMessage("at a", "e", 0, (Event("cached", first.request_id, 200),)))
        await pool.remove("a:1")
        assert pool.health() == []
        await pool.add("http://a:1")
        assert held(pool, "a:1", 1, 2) == 0
        again = await serve(pool, 1, 2)
        events = (Event("cached", again.request_id, 200),)
        assert told(SyncMessage("at a", "e", 1, events, snapshot=True)) == "ok"
        assert [state["sync"] for state in pool.health()] == ["exact"]

    asyncio.run(main())


def test_whose_the_reporters_are_is_learnt_anew_when_a_second_engine_joins() -> None:
    async def main() -> None:
        pool = make_pool("http://a:1")
        ours = await serve(pool, 1, 2)
        told = pool.receiver.receive
        told(SyncMessage("at b", "e", 0, ()))  # launched before it joined
        await pool.add("http://b:2")
        its = await serve(pool, 3, 4, exclude=("a:1",))
        told(SyncMessage("at b", "e", 1, (Event("cached", its.request_id, 200),)))
        told(SyncMessage("at b", "e", 2, (Event("cleared"),)))
        assert held(pool, "b:2", 3, 4) == 0
        assert held(pool, "a:1", 1, 2) == 2
        told(SyncMessage("at a", "e", 0, (Event("cached", ours.request_id, 200),)))
        assert [state["sync"] for state in pool.health()] == ["exact", "exact"]

    asyncio.run(main())


def test_an_engine_that_left_holds_nothing_in_any_look_up() -> None:
    async def main() -> None:
        pool = make_pool("http://a:1", "http://b:2")
        blocks = [Block(key, "text", 100, None) for key in (1, 2)]
        job = Job("n", [blocks], Bounds(), NO_HEAD, [0])
        async with pool.lease("n", blocks, exclude=("b:2",)) as lease:
            lease.plan(job)
            leaver = pool.find("a:1")
            await pool.remove("a:1")
            lease.plan(job)  # planned on, though nobody will find it
            lease.confirm()
        assert leaver is not None
        while len(leaver.namespaces):
            await asyncio.sleep(0.01)
        assert len(pool._by_prefix) == 0

    asyncio.run(main())


def test_a_reporter_that_fell_silent_speaks_for_nobody() -> None:
    pool, now = make_pool("http://a:1"), 0.0
    pool.receiver._clock = lambda: now
    for name in ("old", "new"):
        pool.receiver.receive(SyncMessage(name, "e", 0, ()))
    engine = pool.find("a:1")
    assert engine is not None
    assert engine.reporters == {"old", "new"}
    now = 1e6
    pool.receiver.receive(SyncMessage("new", "e", 1, ()))
    assert engine.reporters == {"new"}
