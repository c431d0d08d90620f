"""Old garbage is collected while nobody waits; requests leave none in cycles."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job
from contextpilot.server.entry import Activity
from contextpilot.server.garbage import Collector
from contextpilot.server.pool.engine_pool import EnginePool


@pytest.fixture
def activity() -> Activity:
    return Activity(begun=5)


def make(activity: Activity) -> tuple[Collector, float]:
    collector = Collector(activity, pause_s=10, latest_s=60, collect=lambda: None)
    return collector, collector._last


def test_it_waits_for_a_second_without_requests(activity: Activity) -> None:
    collector, start = make(activity)
    activity.begun = 6
    assert not collector.look(start + 11)  # one came since the last look
    activity.running = 1
    assert not collector.look(start + 12)
    activity.running = 0
    assert collector.look(start + 13)


def test_it_collects_a_busy_server_at_last(activity: Activity) -> None:
    collector, start = make(activity)
    for second in range(1, 60):
        activity.begun += 1
        assert not collector.look(start + second)
    activity.begun += 1
    assert collector.look(start + 60)


def test_it_rests_between_collections_and_while_nothing_happened(activity: Activity) -> None:
    collector, start = make(activity)
    assert not collector.look(start + 11)
    activity.begun = 6
    collector.look(start + 12)
    assert collector.look(start + 13)
    activity.begun = 7
    collector.look(start + 14)
    assert not collector.look(start + 15)
    assert collector.look(start + 24)
    assert not collector.look(start + 100)


@pytest.mark.slow
def test_a_planned_request_leaves_no_cycle() -> None:
    pool = EnginePool(["http://a:1"], lambda: Namespaces(10_000, 100, 10))

    async def plan(number: int) -> None:
        blocks = [Block(key, "text", 100, None) for key in range(number, number + 4)]
        async with pool.lease("n", blocks) as lease:
            lease.plan(Job("n", [blocks], Bounds(), NO_HEAD, [0]))
            lease.confirm()

    async def main() -> int:
        await plan(0)
        gc.collect()
        gc.disable()
        try:
            for number in range(100):
                await plan(number)
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(main()) < 100


def nodes() -> int:
    return sum(type(thing).__name__ == "Node" for thing in gc.get_objects())


@pytest.mark.slow
def test_dropped_namespaces_are_free_at_once() -> None:
    gc.collect()
    before = nodes()
    gc.disable()
    try:
        namespaces = Namespaces(10_000, 100, 3)
        for number in range(30):
            index = namespaces.get(f"tenant {number}").planner.index
            for start in range(10):
                index.insert([start, start + 1, number])
        del index
        assert nodes() - before <= 3 * 11
        namespaces.reset()
        assert nodes() - before <= 0
    finally:
        gc.enable()


def test_the_weights_of_the_newest_blocks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.server.pool.member._MAX_WEIGHTS", 10)
    pool = EnginePool(["http://a:1"], lambda: Namespaces(10_000, 100, 10))
    for number in range(8):
        blocks = [Block(number * 4 + key, "text", 100, None) for key in range(4)]
        pool.engines[0].plan(Job("n", [blocks], Bounds(), NO_HEAD, [0]))
    assert list(pool.engines[0].weights) == list(range(22, 32))


@pytest.mark.slow
def test_serving_is_what_changes_the_process() -> None:
    code = (
        "import gc, threading; before = gc.get_threshold();"
        "from contextpilot.server.run import make_server, serve;"
        "from contextpilot.server.settings import Settings;"
        "make_server(Settings(port=0)); assert gc.get_threshold() == before;"
        "assert serve(Settings(host='192.0.2.1')) == 1; assert gc.get_threshold() != before;"
        "assert any(t.name == 'contextpilot-garbage' for t in threading.enumerate())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
