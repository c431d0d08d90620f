"""The engine pool: where requests go, what engines that die lose, and whose events are whose."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from servers import send_json, serving

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head
from contextpilot.planning import Job, Planned
from contextpilot.server.pool.engine_pool import EngineDownError, EnginePool
from contextpilot.server.pool.health import Rhythm
from contextpilot.server.pool.lease import Lease
from contextpilot.server.pool.original_order import OriginalOrderCache
from contextpilot.server.pool.slot_choice import Prompt, Slots
from contextpilot.server.pool.waiting import Ageing
from contextpilot.sync.events import Event, SyncMessage

URLS = ("http://a:1", "http://b:2", "http://c:3")
NAMES = ("a:1", "b:2", "c:3")
FAST = Rhythm(interval_s=0.02, first_retry_s=0.01, max_retry_s=0.05, silences=3)


def blocks(*keys: int, weight: int = 100) -> list[Block]:
    return [Block(key, f"text {key}", weight, None) for key in keys]


def job(*keys: int, head: Head = NO_HEAD, namespace: str = "n", weight: int = 100) -> Job:
    return Job(namespace, [blocks(*keys, weight=weight)], Bounds(), head, [10])


def make_pool(urls: Sequence[str] = URLS, **options: Any) -> EnginePool:
    return EnginePool(urls, lambda: Namespaces(10_000, 100, 10), **options)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def serve(pool: EnginePool, wanted: Job, conversation: str | None = None) -> Planned:
    """Run one request through the pool; the plan tells nothing of the engine, `where` does."""
    async with pool.lease(wanted.namespace, wanted.contexts[0], wanted.head, conversation) as lease:
        (planned,) = lease.plan(wanted)
        lease.confirm()
        return planned


async def where(pool: EnginePool, wanted: Job, conversation: str | None = None) -> int:
    """The engine that a request would go to, without anything learnt."""
    async with pool.lease(
        wanted.namespace, wanted.contexts[0], wanted.head, conversation, wait=False
    ) as lease:
        assert lease.engine is not None
        return NAMES.index(lease.engine.name)


def told(pool: EnginePool, name: str, *events: Event, seq: int = 0, epoch: str = "e") -> str:
    return pool.receiver.receive(SyncMessage(name, epoch, seq, events, kind="vllm"))


# -- choice ----------------------------------------------------------------------------------------


def test_a_request_goes_where_most_of_it_is_cached() -> None:
    async def main() -> None:
        pool = make_pool()
        for number, keys in enumerate([(1, 2, 3), (4, 5, 6), (7, 8, 9)]):
            assert await where(pool, job(*keys)) == number  # cold: each in turn
            await serve(pool, job(*keys))
        assert await where(pool, job(6, 5, 4)) == 1
        assert await where(pool, job(9, 7, 8, 1)) == 2
        assert await where(pool, job(2, 1, 7)) == 0
        assert await where(pool, job(2, 1, namespace="other")) in (0, 1, 2)
        assert [engine.traffic.served for engine in pool.engines] == [1, 1, 1]

    run(main())


def test_load_outweighs_a_short_prefix() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:2])
        await serve(pool, job(1, 2))
        async with pool.lease("n", blocks(1, *range(10, 30)), NO_HEAD) as lease:
            assert lease.engine is not None
            assert lease.engine.name == NAMES[0]
            assert await where(pool, job(1, 50)) == 1  # 2,000 tokens wait there, 100 are saved
            lease.first_byte()
            assert await where(pool, job(1, 50)) == 0
        assert pool.engines[0].pending_tokens == 0
        assert pool.engines[0].line.in_flight == 0

    run(main())


def test_a_conversation_stays_with_its_engine_until_that_is_overloaded() -> None:
    async def main() -> None:
        pool = make_pool()
        await serve(pool, job(1))
        await serve(pool, job(2), "talk")
        head = Head(("turn 1", "answer"), 5000)
        assert await where(pool, job(1, head=head), "talk") == 1
        assert await where(pool, job(1, namespace="m"), "talk") != 1
        async with pool.lease("n", blocks(*range(100), weight=200), NO_HEAD, "talk"):
            assert await where(pool, job(1, head=head), "talk") != 1

    run(main())


def test_engines_that_failed_are_excluded() -> None:
    async def main() -> None:
        pool = make_pool()
        for exclude, left in ((NAMES[:1], NAMES[1:]), (NAMES[:2], NAMES[2:])):
            async with pool.lease("n", blocks(1), exclude=exclude) as lease:
                assert lease.engine is not None
                assert lease.engine.name in left
        with pytest.raises(EngineDownError, match="no engine"):
            async with pool.lease("n", blocks(1), exclude=NAMES):
                pass

    run(main())


def test_without_engines_the_pool_only_plans() -> None:
    async def main() -> None:
        pool = make_pool(())
        await pool.start()
        async with pool.lease("n", blocks(1, 2)) as lease:
            assert lease.engine is None
            assert len(lease.plan(job(1, 2))) == 1
        assert pool.health() == []
        assert len(pool.indexes()) == 1
        await pool.close()

    run(main())


def test_urls_must_differ() -> None:
    with pytest.raises(ValueError, match="differ in name and URL"):
        make_pool(("http://a", "http://a/"))


# -- what leases do --------------------------------------------------------------------------------


def test_waiting_requests_get_the_plan_of_their_window() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1], max_in_flight=1, ageing=Ageing(window=8))
        orders: dict[int, list[Any]] = {}
        released = []

        async def visit(name: int, wanted: Job) -> None:
            async with pool.lease("n", wanted.contexts[0], wanted.head) as lease:
                released.append(name)
                (planned,) = lease.plan(wanted)
                orders[name] = [wanted.contexts[0][rank].key for rank in planned.plan.order]
                await asyncio.sleep(0.001)

        contexts = [(90,), (1, 2, 3), (51, 52, 53), (3, 4, 1), (53, 51, 54), (5, 3, 1)]
        jobs = [visit(name, job(*keys)) for name, keys in enumerate(contexts)]
        await asyncio.gather(*jobs)
        assert released[0] == 0
        position = {name: at for at, name in enumerate(released)}
        assert abs(position[2] - position[4]) == 1  # neighbours in the plan run after each other
        assert set(orders[2][:2]) == {51, 53}
        assert orders[2][:2] == orders[4][:2]
        assert {position[1], position[3], position[5]} in ({1, 2, 3}, {3, 4, 5})
        state = pool.health()[0]
        assert state["waited"]["waited"] == 5
        assert state["waiting"] == state["in_flight"] == 0

    run(main())


def test_a_ready_plan_is_used_for_the_leased_job_only() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1], max_in_flight=1)
        kept: list[Lease] = []

        async def visit(wanted: Job, planned: Job) -> None:
            async with pool.lease("n", wanted.contexts[0], wanted.head) as lease:
                kept.append(lease)
                await asyncio.sleep(0)
                assert [one.position for one in lease.plan(planned)] == [0]

        wanted = [job(1, 2), job(2, 3), job(4, 2)]
        await asyncio.gather(*(visit(one, job(7, 8, 9)) for one in wanted))
        assert sorted(len(c) for c in (one.contexts[0] for one in wanted)) == [2, 2, 2]

    run(main())


def test_what_never_ran_is_taken_back() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1])
        head = Head(("system",), 50)
        await serve(pool, job(1, 2, head=head))
        index = pool.engines[0].namespaces.get("n").planner.index
        wanted = job(1, 2, 3, 4, head=head)
        async with pool.lease("n", wanted.contexts[0], head) as lease:
            lease.plan(wanted)
            assert index.match(["system", 1, 2, 3, 4]) == 5
            lease.failed()
        assert index.match(["system", 1, 2, 3, 4]) == 3
        fresh = job(5, head=Head(("other",), 9))
        async with pool.lease("n", fresh.contexts[0], fresh.head) as lease:
            lease.plan(fresh)
            lease.failed()
        assert index.match(["other"]) == 0
        assert index.match(["system", 1, 2]) == 3
        assert pool.engines[0].traffic.failed == 2

    run(main())


def test_of_two_that_never_ran_nothing_is_left() -> None:
    """The second was planned behind what the first would have brought there."""

    async def main() -> None:
        pool = make_pool(URLS[:1])
        index = pool.engines[0].namespaces.get("n").planner.index
        one, two = job(1, 2, 3), job(3, 2, 1, 4)
        async with pool.lease("n", one.contexts[0]) as first:
            first.plan(one)
            async with pool.lease("n", two.contexts[0]) as second:
                (planned,) = second.plan(two)
                assert planned.plan.num_live == 3
                first.failed()
                assert index.match([1, 2, 3, 4]) == 4  # the second is on its way with all of it
        assert index.stats().num_blocks == 0

    run(main())


def test_what_the_engine_told_of_a_request_stays_when_its_client_goes() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1])
        wanted = job(1, 2, 3, 4)
        async with pool.lease("n", wanted.contexts[0]) as lease:
            (planned,) = lease.plan(wanted)
            told(pool, "a", Event("cached", planned.request_id, 200))
        index = pool.engines[0].namespaces.get("n").planner.index
        assert index.match([1, 2, 3, 4]) == 2
        told(pool, "a", Event("cached", planned.request_id, 400), seq=1)  # it was read all the same
        assert index.match([1, 2, 3, 4]) == 4

    run(main())


def test_a_slot_is_not_taken_to_hold_what_never_ran_there() -> None:
    slots = Slots(2)
    for number in range(4):
        assert slots.take(prompt(str(number), ["a"], 500)) == number % 2
        slots.free(number % 2)
        slots.forget(number % 2, str(number))
    slots.forget(0, "3")
    assert slots.take(prompt("5", ["a"], 500)) == 0
    slots.learn(0, 0)
    slots.forget(0, "another")
    slots.free(0)
    assert slots.take(prompt("6", ["a", "b"], 500, 600)) == 0


def test_errors_count_as_failures_and_give_the_place_back() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1], max_in_flight=1)
        for error in (OSError("broken"), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                async with pool.lease("n", blocks(1)):
                    raise error
        assert pool.engines[0].line.in_flight == 0
        assert pool.engines[0].traffic.failed == 1
        assert pool.engines[0].traffic.served == 1  # a client that goes is no fault of the engine

    run(main())


# -- life and death --------------------------------------------------------------------------------


class Fetch:
    """Answers health checks as told; for faults in an order that no real server can time."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.slow: set[str] = set()
        self.pages: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []

    async def __call__(self, url: str) -> tuple[int, bytes]:
        self.asked.append(url)
        base = url.rsplit("/", 1)[0]
        if base in self.dead:
            raise ConnectionRefusedError(base)
        if base in self.slow:
            raise TimeoutError(base)
        return self.pages.get(url, (200 if url.endswith("/health") else 404, b""))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_dead_engine_loses_its_index_and_who_waits_there_goes_elsewhere() -> None:
    async def main() -> None:
        fetch = Fetch()
        pool = make_pool(URLS[:2], max_in_flight=1, rhythm=FAST, get=fetch)
        await pool.start()
        await until(lambda: all(engine.up for engine in pool.engines))
        first = await serve(pool, job(1, 2, 3))
        await serve(pool, job(7, 8, 9))
        assert told(pool, "one", Event("cached", first.request_id, 300)) == "ok"
        async with pool.lease("n", blocks(1, 2, 3, weight=2000)) as lease:
            assert lease.engine is not None
            assert lease.engine.name == NAMES[0]
            lease.first_byte()
            other = asyncio.create_task(where_served(pool, job(1, 2, 3)))
            await until(lambda: len(pool.engines[0].line) == 1)
            fetch.dead.add(URLS[0])
            assert await other == 1
        assert pool.engines[0].up is False
        assert [state["up"] for state in pool.health()] == [False, True]
        index = pool.engines[0].namespaces.get("n").planner.index
        assert index.stats().num_blocks == 0
        assert told(pool, "one", seq=1) == "resync"
        fetch.dead.clear()
        await until(lambda: pool.engines[0].up)
        snapshot = SyncMessage(
            "one", "e", 5, (Event("cached", first.request_id, 300),), snapshot=True
        )
        assert pool.receiver.receive(snapshot) == "ok"
        assert index.match([1, 2, 3]) == 3
        await pool.close()

    run(main())


def test_a_dead_engine_of_many_tenants_is_forgotten_beside_the_loop() -> None:
    async def main() -> None:
        pool = EnginePool(URLS[:1], lambda: Namespaces(10_000, 100, 100))
        engine = pool.engines[0]
        for number in range(40):
            engine.plan(job(1, 2, 3, namespace=f"tenant {number}"))
        held = threading.Event()

        def hold() -> None:
            with engine.namespaces.get("tenant 1").lock:
                held.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        await until(lambda: engine.is_busy("tenant 1"))
        await pool._bury(engine)  # returns, though a thread is planning there
        held.set()
        spaces = [space for _, space in engine.namespaces.items()]
        await until(lambda: not any(space.index.stats().num_blocks for space in spaces))
        thread.join(30)

    run(main())


async def where_served(pool: EnginePool, wanted: Job) -> int:
    async with pool.lease("n", wanted.contexts[0], wanted.head) as lease:
        lease.plan(wanted)
        lease.confirm()
        assert lease.engine is not None
        return NAMES.index(lease.engine.name)


def test_clouds_are_not_probed() -> None:
    async def main() -> None:
        fetch = Fetch()
        pool = make_pool(URLS[:2], rhythm=FAST, get=fetch, unchecked=[URLS[1] + "/"])
        await pool.start()
        await until(lambda: all(engine.up for engine in pool.engines))
        assert fetch.asked
        assert not [url for url in fetch.asked if url.startswith(URLS[1])]
        async with pool.lease("n", blocks(1), exclude=NAMES[:1]) as lease:
            lease.failed()
        assert pool.engines[1].up is True
        await pool.close()

    run(main())


def test_health_checks_of_real_servers() -> None:
    status = [503]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/health":
            await send_json(send, {"status": "ok"}, status[0])
        elif scope["path"] == "/props":
            await send_json(send, {"total_slots": 3, "default_generation_settings": {}})
        else:
            await send_json(send, {}, 404)

    async def main(url: str, stop: Any) -> None:
        pool = make_pool((url,), rhythm=FAST)
        await pool.start()
        await until(lambda: pool.engines[0].up is False)  # it loads its model
        status[0] = 200
        await until(lambda: pool.engines[0].up)
        assert pool.health()[0]["slots"] == 3
        assert pool.health()[0]["max_in_flight"] == 3
        await asyncio.to_thread(stop)
        await until(lambda: pool.engines[0].up is False)
        await pool.close()

    context = serving(app)
    url = context.__enter__()
    run(main(url, lambda: context.__exit__(None, None, None)))


# -- events ----------------------------------------------------------------------------------------


def test_events_reach_the_engine_that_planned_the_request() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:2])
        first = await serve(pool, job(1, 2, 3))
        second = await serve(pool, job(7, 8, 9))
        assert {state["sync"] for state in pool.health()} == {"off"}
        assert told(pool, "b", Event("truncated", second.request_id, 100)) == "ok"
        assert told(pool, "a", Event("cached", first.request_id, 300)) == "ok"
        indexes = [spaces.get("n").planner.index for spaces in pool.indexes()]
        assert indexes[0].match([1, 2, 3]) == 3
        assert indexes[1].match([7, 8, 9]) == 1
        one, two = pool.health()
        assert (one["sync"], two["sync"]) == ("exact", "exact")
        assert one["kind"] == "vllm"
        assert one["last_event_age_s"] is not None
        assert (one["evicted"], two["evicted"]) == (0, 1)
        assert told(pool, "a", seq=7) == "resync"
        assert [state["sync"] for state in pool.health()] == ["approximate", "exact"]
        assert pool.receiver.evict([first.request_id, "unknown"]) == 1
        assert indexes[0].match([1]) == 0

    run(main())


@pytest.mark.parametrize("how", ["restart", "reset"])
def test_a_restart_or_reset_empties_the_engines_part_of_the_index(how: str) -> None:
    async def main() -> None:
        pool = make_pool(URLS[:2])
        first = await serve(pool, job(1, 2, 3))
        await serve(pool, job(7, 8, 9))
        assert told(pool, "a", Event("cached", first.request_id, 300)) == "ok"
        index = pool.engines[0].namespaces.get("n").planner.index
        index.insert([5, 6])  # learnt, but never reported
        if how == "restart":
            assert told(pool, "a", epoch="later") == "ok"
        else:
            assert told(pool, "a", Event("cleared"), seq=1) == "ok"
        assert index.stats().num_blocks == 0
        assert pool.engines[1].namespaces.get("n").planner.index.stats().num_blocks == 3

    run(main())


def test_the_engines_of_a_router_come_and_go_one_by_one() -> None:
    async def main() -> None:
        now = [0.0]
        pool = make_pool(URLS[:1])
        pool.receiver._clock = lambda: now[0]
        first, second = await serve(pool, job(1, 2, 3)), await serve(pool, job(7, 8, 9))
        index = pool.engines[0].namespaces.get("n").planner.index
        told(pool, "a", Event("cached", first.request_id, 300))
        told(pool, "b", Event("cached", second.request_id, 300))
        assert told(pool, "a", epoch="later") == "ok"
        assert (index.match([1, 2, 3]), index.match([7, 8, 9])) == (0, 3)
        now[0] = 100.0
        told(pool, "a", epoch="later", seq=1)
        assert pool.health()[0]["sync"] == "approximate"
        now[0] = 130.0
        told(pool, "a", epoch="later", seq=2)
        assert pool.health()[0]["sync"] == "exact"
        assert index.stats().num_blocks == 0

    run(main())


def test_namespaces_share_nothing() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1])
        await serve(pool, job(1, 2, 3, namespace="one"))
        other = await serve(pool, job(3, 2, 1, namespace="two"))
        assert other.plan.order == (0, 1, 2)
        assert other.explanation.matched_tokens == 0
        again = await serve(pool, job(3, 2, 1, namespace="one"))
        assert again.explanation.matched_tokens == 300

    run(main())


# -- parts -----------------------------------------------------------------------------------------


def prompt(name: str, keys: Sequence[str], *tokens: int) -> Prompt:
    return Prompt(name, keys, tokens)


def test_slots_keep_long_prompts_and_are_waited_for_only_when_worth_it() -> None:
    slots = Slots(2)
    assert slots.take(prompt("1", ["system", "a", "b"], 10, 500, 1000)) == 0
    slots.free(0)
    assert slots.take(prompt("2", ["system", "x"], 10, 400)) == 1  # would drop the longer prompt
    slots.free(1)
    assert slots.take(prompt("3", ["system", "a", "c"], 10, 500, 900)) == 0
    assert slots.take(prompt("4", ["system", "a", "d"], 10, 500, 600)) == 0  # busy: most is there
    assert slots.take(prompt("5", ["system", "a", "e"], 10, 500, 5000)) == 1
    assert slots.take(prompt("6", ["other"], 100)) is None
    slots.free(1)
    slots.clear()
    assert slots.take(prompt("7", ["other"], 100)) == 1


class Told:
    """What an engine told of its slots."""

    def __init__(self) -> None:
        self.held: dict[int, list[tuple[str, int]]] = {0: [], 1: []}
        self.pending = ""
        self.copies = False

    def tokens(self, slot: int) -> int:
        return max((tokens for _, tokens in self.held[slot]), default=0)

    def requests(self, slot: int) -> list[tuple[str, int]]:
        return self.held[slot]

    def is_pending(self, request: str) -> bool:
        return request == self.pending

    def has_copies(self) -> bool:
        return self.copies

    def copies(self, slot: int) -> list[tuple[int, list[tuple[str, int]]]]:
        return []


def test_slots_believe_the_engine_before_what_was_sent() -> None:
    slots, told = Slots(2), Told()
    first = prompt("1", ["a", "b"], 500, 1000)
    again = prompt("2", ["a", "b"], 500, 1000)
    assert slots.take(first, told) == 0
    told.pending = "1"
    slots.free(0)
    assert slots.take(again, told) == 0  # not known yet: what was sent counts
    slots.free(0)
    told.pending, told.held[1] = "", [("1", 1000)]  # it was moved to the other slot
    assert slots.take(prompt("3", ["a", "b", "c"], 500, 1000, 1100), told) == 1
    slots.free(1)
    told.held[1] = []  # and was dropped there
    assert slots.take(again, told) == 0


def test_no_slot_is_asked_for_where_the_server_empties_idle_ones() -> None:
    slots, told = Slots(2), Told()
    told.copies = True
    assert slots.take(prompt("1", ["a"], 500), told) == 0  # never used: it may be empty
    slots.free(0)
    told.held[0] = [("1", 500)]
    assert slots.take(prompt("2", ["b"], 500), told) == 1
    slots.free(1)
    told.held[1], told.held[0] = [("2", 500)], []
    assert slots.take(prompt("3", ["a"], 500), told) is None
    told.held[0] = [("1", 500)]
    assert slots.take(prompt("4", ["a"], 500), told) == 0


def test_slots_that_disappoint_are_asked_for_no_more() -> None:
    slots = Slots(2)
    for number, cached in enumerate((0, 0, 490, 0)):
        assert slots.take(prompt(str(number), ["a"], 500)) == 0
        slots.learn(0, cached)
        slots.free(0)
    assert slots.take(prompt("5", ["a"], 500)) == 0
    slots.learn(0, 1)
    assert slots.take(prompt("6", ["a"], 500)) is None
    slots.clear()
    assert slots.take(prompt("7", ["a"], 500)) is not None


def test_a_slot_that_the_client_chose_counts_from_zero_again_beyond_the_last() -> None:
    slots = Slots(2)
    assert slots.put(3, prompt("1", ["a"], 100)) == 1
    assert slots.take(prompt("2", ["b"], 100)) == 0


def test_hits_are_compared_with_those_of_the_original_order() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1])
        for keys in ((1, 2, 3, 4), (4, 3, 2, 1), (1, 2, 4, 3)):
            await serve(pool, job(*keys))
        traffic = pool.engines[0].traffic
        assert traffic.tokens == 1200
        assert traffic.live_tokens == 800
        assert traffic.plain_tokens == 200

    run(main())


def test_the_plain_cache_is_as_small_as_the_real_one_once_that_evicts() -> None:
    plain = OriginalOrderCache()
    head = Head(("system",), 70)
    assert plain.run("n", blocks(1, 2), head, 2, False) == 0
    assert plain.run("n", blocks(1, 3), head, 3, False) == 100
    assert plain.run("m", blocks(1, 3), head, 3, False) == 0
    for key in range(10, 40):
        plain.run("n", blocks(key), head, 4, True)
    assert plain.run("n", blocks(1, 2), head, 4, True) == 0
    plain.clear()
    assert plain.run("n", blocks(39), head, 4, False) == 0


def test_the_state_of_an_engine_is_json() -> None:
    async def main() -> None:
        pool = make_pool(URLS[:1])
        await serve(pool, job(1, 2))
        (state,) = json.loads(json.dumps(pool.health()))
        assert state["engine"] == NAMES[0]
        assert state["url"] == URLS[0]
        assert state["served"] == 1
        assert state["max_in_flight"] is None
        assert state["up"] is None  # nobody asked yet

    run(main())
