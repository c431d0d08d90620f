"""Rows: the index or an engine goes, stands still, comes back as another; the way between them."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import contextpilot as cp
from faults.load import Load, Send, beside, through
from faults.machines import Index, ask, wait_for
from faults.postman import Postman
from faults.world import Outcome, Row, World, follows, in_background, outcome_of

HANG_S = 3.0
PAUSE_S = 1.0


def _index_fails(world: World, how: str) -> Outcome:
    """Clients plan with the library on a shared index, and send to the engine themselves."""
    load, survived = Load(), 0
    with world.single() as (index, engine), cp.ContextPilot(index_url=index.url) as pilot:
        with load.running(beside(pilot, engine.url)):
            for _ in range(world.times):
                load.wait(10)
                _fail(index, how)
                if how != "hung":
                    load.wait(10)
                    index.start()
                load.wait(10)
                survived += wait_for(lambda: _plans(index, beside(pilot, engine.url)), 60)
        survived = survived if follows(index, engine, load) else 0
    return outcome_of(load, world.times, survived)


def _fail(index: Index, how: str) -> None:
    if how == "killed":
        index.kill()
    elif how == "restarted":
        index.stop()
    else:
        index.hang(True)
        time.sleep(HANG_S)
        index.hang(False)


def _plans(index: Index, send: Send) -> bool:
    """Return whether the index plans for a library again."""
    before = ask(f"{index.url}/stats")["requests"]
    send(random.Random())
    return bool(ask(f"{index.url}/stats")["requests"] > before)


def _streams_end(world: World) -> Outcome:
    """A stop lets what runs end: every answer that had begun is whole."""
    load, good = Load(), 0
    with world.pair() as (index, _, _):
        for _ in range(world.times):
            threads = [
                in_background(partial(load.tell, through(index.url), random.Random(number)))
                for number in range(4)
            ]
            wait_for(lambda: ask(f"{index.url}/stats")["requests"] > 0, 10)
            index.process.terminate()
            for thread in threads:
                thread.join(60)
            index.process.join(60)
            good += index.process.exitcode in (0, -signal.SIGTERM)
            index.start()
    for what in [what for what in load.lost if "refused" in what]:  # came after the stop
        del load.lost[what]
    return outcome_of(load, world.times, good)


@contextlib.contextmanager
def _by_post(world: World) -> Iterator[tuple[Index, Any, Postman]]:
    """Run an index and an engine whose messages pass through other hands."""
    postman = Postman()
    try:
        with world.single(engine_sees=postman.url) as (index, engine):
            postman.index_url = index.url
            yield index, engine, postman
    finally:
        postman.close()


def _cut_off(world: World) -> Outcome:
    load, survived = Load(), 0
    with _by_post(world) as (index, engine, postman), load.running(through(index.url)):
        for _ in range(world.times):
            load.wait(10)
            postman.fault = "cut"
            load.wait(20)
            postman.fault = ""
            survived += follows(index, engine, load)
    return outcome_of(load, world.times, survived)


def _engine_fails(world: World, how: str) -> Outcome:
    """Another engine stands in; the one that failed is found again, as what it is then."""
    load, survived = Load(), 0
    with world.pair(read_timeout_s=HANG_S) as (index, engine, other):
        name = engine.url.removeprefix("http://")
        with load.running(through(index.url)):
            for _ in range(world.times):
                load.wait(10)
                if how == "hung":
                    engine.hang(True)
                    wait_for(lambda: not index.engine_states()[name]["up"], 60)
                    load.wait(10)
                    engine.hang(False)
                else:
                    engine.kill()
                    load.wait(10)
                    if how == "upgraded":
                        engine.upgrade()
                    engine.start()
                survived += wait_for(lambda: bool(index.engine_states()[name]["up"]), 60)
        survived = survived if follows(index, engine, load, other) else 0
    return outcome_of(load, world.times, survived)


def _messages(world: World, fault: str) -> Outcome:
    """Belief is never above the truth once messages come through again."""
    load = Load()
    with _by_post(world) as (index, engine, postman):
        with load.running(through(index.url)):
            load.wait(10)
            postman.fault = fault
            wait_for(lambda: postman.done[fault] >= 3 * world.times, 60)
            postman.fault = ""
        is_good = follows(index, engine, load)
    injected = postman.done[fault]
    return outcome_of(load, injected, injected * is_good)


def _clock(world: World) -> Outcome:
    load = Load()
    with world.pair(jumps=True) as (index, engine, other):
        with load.running(through(index.url)):
            began = time.monotonic()
            load.wait(50 * world.times)
            jumps = int(10 * (time.monotonic() - began))
        is_good = follows(index, engine, load, other)
    return outcome_of(load, jumps, jumps * is_good)


_INDEX_FAILS = {
    "killed": "the library plans by itself, then on the index again once it is back; engines "
    "report again",
    "hung": "the same; nobody waits longer than the library's time-out",
    "restarted": "the same",
}
_ENGINE_FAILS = {
    "killed": "another engine takes over; the dead one's cache is forgotten",
    "hung": "the same, after the read time-out for what was sent there",
    "upgraded": "the engine at the address is detected again, with a new cache",
}
_NEVER_ABOVE = "the index never believes too much, and is exact again"
_AGAIN = "requests continue; the index is exact again once messages arrive"


def _rows(
    what: str, run: Callable[[World, str], Outcome], expected: Mapping[str, str]
) -> Iterator[Row]:
    """Yield a row for each way in which something fails."""
    for how, told in expected.items():
        yield Row(f"{what} {how}", told, partial(_run, run, how), is_of_engine=True)


def _run(run: Callable[[World, str], Outcome], how: str, world: World) -> Outcome:
    return run(world, how)


ROWS = [
    *_rows("index", _index_fails, _INDEX_FAILS),
    Row("server stopped", "answers that have begun are completed", _streams_end),
    Row("engine cut off from the index", _AGAIN, _cut_off, is_of_engine=True),
    *_rows("engine", _engine_fails, _ENGINE_FAILS),
    *_rows(
        "sync messages",
        _messages,
        dict.fromkeys(("lost", "doubled", "reordered"), _NEVER_ABOVE),
    ),
    Row("wall clock jumps", "only the dashboard's clock depends on it", _clock),
]
