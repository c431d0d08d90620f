"""Waiting lines on a real event loop: order, fairness, cancellation, and no place ever lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head, Plan
from contextpilot.plan.simulate import PrefixCache
from contextpilot.planning import Job
from contextpilot.server.pool.concurrency_limit import ConcurrencyLimit
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.waiting import LARGE_WINDOW, Ageing, UnplannedRequest, WaitingLine
from contextpilot.server.pool.windows import WindowPlanner


def request(keys: Sequence[int], namespace: str = "a", head: Head = NO_HEAD) -> UnplannedRequest:
    return UnplannedRequest(namespace, [Block(key, "", 100, None) for key in keys], head, Bounds())


def backwards(requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
    """Plan a window in reverse order of arrival."""
    for position in reversed(range(len(requests))):
        yield position, Plan(tuple(range(len(requests[position].blocks))), 0)


class Desk:
    """Drives a line: requests come with a name, hold their place, and go when told."""

    def __init__(self, line: WaitingLine) -> None:
        self.line = line
        self.released: list[int] = []
        self.plans: dict[int, Plan | None] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._ends: dict[int, asyncio.Event] = {}

    async def come(self, *names: int, keys: Callable[[int], Sequence[int]] = lambda n: [n]) -> None:
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._visit(name, keys(name)))
            await asyncio.sleep(0)

    async def go(self, name: int) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def _visit(self, name: int, keys: Sequence[int]) -> None:
        self.plans[name] = await self.line.enter(request(keys))
        self.released.append(name)
        try:
            await self._ends[name].wait()
        finally:
            self.line.leave()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def test_below_saturation_nothing_waits_and_nothing_is_planned() -> None:
    def never(requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
        raise AssertionError("planned below saturation")

    async def main() -> None:
        line = WaitingLine(never, ConcurrencyLimit(3))
        for _ in range(3):  # not one turn of the loop passes
            with pytest.raises(StopIteration) as stopped:
                line.enter(request([1])).send(None)
            assert stopped.value.value is None
        assert line.in_flight == 3
        assert len(line) == 0
        assert line.totals.waited == 0

    run(main())


def test_waiting_requests_are_released_in_the_order_of_the_plan() -> None:
    async def main() -> None:
        desk = Desk(WaitingLine(backwards, ConcurrencyLimit(1), Ageing(window=3)))
        await desk.come(*range(6))
        for name in (0, 3, 2, 1, 5, 4):
            assert desk.released[-1] == name
            await desk.go(name)
        assert desk.plans[0] is None
        assert desk.plans[3] is not None
        assert desk.line.in_flight == 0
        assert desk.line.totals.released == 6
        assert desk.line.totals.waited == 5

    run(main())


class Paused:
    """Arranges backwards, and no window before `go` is set: on the loop's thread it would hang."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self._error = error

    def __call__(self, requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
        assert self.go.wait(30)
        if self._error is not None:
            raise self._error
        yield from backwards(requests)


MANY = range(1, LARGE_WINDOW + 2)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_large_window_is_planned_beside_the_loop() -> None:
    async def main() -> None:
        plan_window = Paused()
        desk = Desk(WaitingLine(plan_window, ConcurrencyLimit(1), Ageing(window=64)))
        await desk.come(0, *MANY)
        await desk.go(0)
        await desk.come(99)
        desk.tasks[3].cancel()
        assert desk.released == [0]
        plan_window.go.set()
        for name in [*sorted(set(MANY) - {3}, reverse=True), 99]:
            await until(lambda name=name: desk.released[-1] == name)  # type: ignore[misc]
            await desk.go(name)
        assert desk.plans[1] is not None
        assert desk.line.in_flight == 0

    run(main())


def test_a_large_window_that_cannot_be_planned_goes_in_order_of_arrival() -> None:
    async def main() -> None:
        plan_window = Paused(RuntimeError("on purpose"))
        plan_window.go.set()
        desk = Desk(WaitingLine(plan_window, ConcurrencyLimit(1), Ageing(window=64)))
        await desk.come(0, *MANY)
        await desk.go(0)
        for name in MANY:
            await until(lambda name=name: desk.released[-1] == name)  # type: ignore[misc]
            assert desk.plans[name] is None
            await desk.go(name)

    run(main())


def test_who_is_dismissed_while_a_window_is_planned_is_not_released() -> None:
    async def main() -> None:
        plan_window = Paused()
        line = WaitingLine(plan_window, ConcurrencyLimit(1), Ageing(window=64))
        desk = Desk(line)
        await desk.come(0, *MANY)
        await desk.go(0)
        line.dismiss(OSError("gone"))
        for name in MANY:
            with pytest.raises(OSError, match="gone"):
                await desk.tasks[name]
        plan_window.go.set()
        await desk.come(50, 51, 52)
        for name in (50, 52, 51):
            await until(lambda name=name: desk.released[-1] == name)  # type: ignore[misc]
            await desk.go(name)
        assert line.in_flight == 0

    run(main())


def test_a_request_that_comes_later_joins_the_next_window() -> None:
    async def main() -> None:
        desk = Desk(WaitingLine(backwards, ConcurrencyLimit(1), Ageing(window=8)))
        await desk.come(0, 1, 2)
        await desk.go(0)
        await desk.come(3, 4)
        for name in (2, 1, 4, 3):
            assert desk.released[-1] == name
            await desk.go(name)

    run(main())


@pytest.mark.slow
@given(
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(1, 3),
    st.lists(st.integers(0, 4), max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_nobody_is_overtaken_too_often(
    window: int, most: int, places: int, arrivals: list[int], chance: random.Random
) -> None:
    def shuffled(requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
        order = list(range(len(requests)))
        chance.shuffle(order)
        return ((position, Plan((0,), 0)) for position in order)

    async def main() -> None:
        ageing = Ageing(window=window, max_overtaken=most, max_delay_s=1e9)
        desk = Desk(WaitingLine(shuffled, ConcurrencyLimit(places), ageing))
        come = 0
        for number in arrivals:
            await desk.come(*range(come, come + number))
            come += number
            if chance.random() < 0.7 and len(desk.released) > (gone := _gone(desk)):
                await desk.go(desk.released[gone])
        for i in range(come):
            if not desk.tasks[desk.released[i]].done():
                await desk.go(desk.released[i])
        assert sorted(desk.released) == list(range(come))
        place = {name: at for at, name in enumerate(desk.released)}
        for name in range(come):
            later = sum(place[other] < place[name] for other in range(name + 1, come))
            assert later <= min(most, window - 1)
        assert desk.line.in_flight == 0

    run(main())


def _gone(desk: Desk) -> int:
    return sum(desk.tasks[name].done() for name in desk.released)


def test_nobody_is_overtaken_for_too_long() -> None:
    async def main() -> None:
        now = [0.0]
        ageing = Ageing(window=4, max_overtaken=99, max_delay_s=5.0)
        desk = Desk(WaitingLine(backwards, ConcurrencyLimit(1), ageing, clock=lambda: now[0]))
        await desk.come(0, 1, 2, 3, 4)
        now[0] = 100.0  # so far nobody was overtaken, however long they wait
        await desk.go(0)
        assert desk.released == [0, 4]
        now[0] = 104.9
        await desk.go(4)
        assert desk.released == [0, 4, 3]
        now[0] = 105.0
        await desk.go(3)
        assert desk.released == [0, 4, 3, 1]
        await desk.go(1)
        await desk.go(2)
        assert desk.line.totals.longest_s == 105.0
        assert desk.line.in_flight == 0

    run(main())


def test_cancelled_requests_leave_the_line() -> None:
    async def main() -> None:
        desk = Desk(WaitingLine(backwards, ConcurrencyLimit(1), Ageing(window=4)))
        await desk.come(0, 1, 2, 3)
        desk.tasks[3].cancel()
        await asyncio.gather(desk.tasks[3], return_exceptions=True)
        assert len(desk.line) == 2
        await desk.go(0)
        assert desk.released == [0, 2]
        desk.tasks[1].cancel()
        await desk.go(2)
        assert desk.line.in_flight == 0
        assert len(desk.line) == 0

    run(main())


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_a_place_given_to_a_cancelled_request_goes_to_the_next(cancelled_first: bool) -> None:
    async def main() -> None:
        line = WaitingLine(backwards, ConcurrencyLimit(1))
        assert await line.enter(request([0])) is None
        first = asyncio.create_task(line.enter(request([1])))
        second = asyncio.create_task(line.enter(request([2])))
        await asyncio.sleep(0)
        if cancelled_first:  # in the same turn of the loop as the release, before or after it
            second.cancel()
            line.leave()
        else:
            line.leave()
            second.cancel()
        await asyncio.wait_for(first, 5)
        assert (await asyncio.gather(second, return_exceptions=True))[0].__class__ is (
            asyncio.CancelledError
        )
        assert line.in_flight == 1
        line.leave()
        assert line.in_flight == 0

    run(main())


def test_dismissed_requests_get_the_error_and_take_no_place() -> None:
    async def main() -> None:
        desk = Desk(WaitingLine(backwards, ConcurrencyLimit(1)))
        await desk.come(0, 1, 2)
        desk.tasks[2].cancel()
        desk.line.dismiss(ConnectionError("gone"))
        results = await asyncio.gather(*(desk.tasks[n] for n in (1, 2)), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionError, asyncio.CancelledError]
        assert desk.line.in_flight == 1
        await desk.go(0)
        assert desk.line.in_flight == 0

    run(main())


def test_planning_that_fails_leaves_the_order_of_arrival(caplog: pytest.LogCaptureFixture) -> None:
    def broken(requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
        raise ValueError("no plan")

    async def main() -> None:
        desk = Desk(WaitingLine(broken, ConcurrencyLimit(1)))
        await desk.come(0, 1, 2)
        for name in (0, 1, 2):
            await desk.go(name)
        assert desk.released == [0, 1, 2]

    run(main())
    assert "planned together" in caplog.text


def test_a_risen_limit_lets_more_in() -> None:
    async def main() -> None:
        limit = ConcurrencyLimit(1)
        desk = Desk(WaitingLine(backwards, limit))
        await desk.come(0, 1, 2)
        limit.value = 3
        desk.line.release()
        await asyncio.sleep(0)
        assert sorted(desk.released) == [0, 1, 2]
        for name in (0, 1, 2):
            await desk.go(name)

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_lost_under_stress(seed: int) -> None:
    chance = random.Random(seed)
    places, done, most = chance.randint(1, 4), [0, 0], [0]
    namespaces = Namespaces(10_000, 100, 10)

    async def visit(line: WaitingLine, keys: list[int]) -> None:
        await line.enter(request(keys, chance.choice("ab")))
        most[0] = max(most[0], line.in_flight)
        try:
            await asyncio.sleep(chance.random() * 0.001)
        finally:
            line.leave()

    async def main() -> None:
        ageing = Ageing(window=chance.randint(1, 8), max_overtaken=chance.randint(0, 9))
        line = WaitingLine(WindowPlanner(namespaces), ConcurrencyLimit(places), ageing)
        tasks = []
        for _ in range(150):
            keys = [chance.randrange(20) for _ in range(chance.randint(0, 5))]
            tasks.append(asyncio.create_task(visit(line, keys)))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.001)
            if chance.random() < 0.25:
                chance.choice(tasks).cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            done[result is not None] += 1
            assert result is None or isinstance(result, asyncio.CancelledError)
        assert len(line) == 0
        assert line.in_flight == 0
        assert await line.enter(request([1])) is None

    run(main())
    assert most[0] <= places
    assert done[0] > 50
    assert done[1] > 0


def test_windows_are_planned_by_namespace_and_head() -> None:
    namespaces = Namespaces(10_000, 100, 10)
    system = Head(("system",), 50)
    requests = [
        request([1, 2, 3]),
        request([9, 8], "b"),
        request([3, 1, 7]),
        request([1, 3], "a", system),
        request([8, 9, 5], "b"),
    ]
    steps = list(WindowPlanner(namespaces)(requests))
    assert sorted(position for position, _ in steps) == [0, 1, 2, 3, 4]
    order = [position for position, _ in steps]
    assert {order[0], order[1]} == {0, 2}
    assert {order[2], order[3]} == {1, 4}
    for position, plan in steps:
        assert sorted(plan.order) == list(range(len(requests[position].blocks)))
    plans = {p: [requests[p].blocks[rank].key for rank in plan.order] for p, plan in steps}
    assert set(plans[0][:2]) == set(plans[2][:2]) == {1, 3}
    assert plans[0][:2] == plans[2][:2]


def test_windows_win_hits_in_a_small_cache() -> None:
    chance = random.Random(7)
    topics = [chance.sample(range(200), 12) for _ in range(12)]
    contexts = [chance.sample(chance.choice(topics), 8) for _ in range(120)]
    ratios = {window: hit_ratio(contexts, window) for window in (1, 16)}
    assert ratios[16] > 1.5 * ratios[1]


def hit_ratio(contexts: Sequence[Sequence[int]], window: int) -> float:
    """Serve a backlog one by one from a cache that holds two contexts and reports evictions."""
    lost: dict[Any, int] = {}
    cache = PrefixCache(1600, lambda name, tokens: lost.update({name: tokens}))

    async def main() -> None:
        engine = Engine("e", "", Namespaces(10_000, 100, 1), 1, Ageing(window, 64, 1e9))

        async def serve(keys: Sequence[int]) -> None:
            own = request(keys)
            ready = await engine.line.enter(own)
            job = Job("a", [own.blocks], own.bounds, NO_HEAD, [0])
            (planned,) = engine.plan(job, ready)
            order = [keys[rank] for rank in planned.plan.order]
            cache.request(order, dict.fromkeys(keys, 100), planned.request_id)
            for name, tokens in lost.items():
                engine.namespaces.get("a").planner.index.truncate(name, tokens)
            lost.clear()
            await asyncio.sleep(0)
            engine.line.leave()

        await asyncio.gather(*(serve(keys) for keys in contexts))

    run(main())
    return cache.totals.hit_ratio


@pytest.mark.parametrize(
    ("name", "value"), [("window", 0), ("max_overtaken", -1), ("max_delay_s", -0.5)]
)
def test_ageing_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Ageing(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_in_flight"):
        ConcurrencyLimit(0)
