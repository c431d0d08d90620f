"""Calls that are awaited: the loop goes on, and nothing is believed of what was cancelled."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import contextpilot as cp
from contextpilot import awaited

TEXTS = [f"Passage {n}. " + f"word{n} " * 40 for n in range(8)]


def test_results_and_index_are_those_of_the_pilot() -> None:
    pilot = cp.ContextPilot(displacement_cost=0, min_gain_tokens=0)

    async def ask() -> Any:
        async with cp.AsyncContextPilot(pilot) as other:
            first = await other.optimize(TEXTS[:3], "first?", system_instruction="Be brief.")
            batch, order = await other.optimize_batch([TEXTS[:2], TEXTS[1:3]], ["p", "q"])
            blocks, _ = await other.reorder(TEXTS[:2])
            done = await other.rewrite([{"role": "user", "content": "x"}])
            return first, batch, order, blocks, done

    first, batch, order, blocks, done = asyncio.run(ask())
    assert first[0]["content"] == "Be brief."
    assert sorted(order) == [0, 1]
    assert len(batch) == 2
    assert len(blocks[0]) == 2
    assert done.reason == "no blocks"
    second = pilot.optimize(TEXTS[2::-1], "second?", system_instruction="Be brief.")
    assert second.order == (2, 1, 0)  # what was awaited stands in the same index
    assert pilot.stats()["default"]["requests"] == 5


def test_signatures_are_those_of_the_pilot() -> None:
    for name in ("optimize", "optimize_batch", "reorder", "rewrite", "close"):
        own = inspect.signature(getattr(cp.AsyncContextPilot, name)).parameters.values()
        theirs = inspect.signature(getattr(cp.ContextPilot, name)).parameters.values()
        given = [one.name for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
        assert given == [one.name for one in theirs if one.kind is one.POSITIONAL_OR_KEYWORD]


def test_errors_are_those_of_the_pilot() -> None:
    pilot = cp.AsyncContextPilot()
    with pytest.raises(TypeError, match=r"contexts\[0\]"):
        asyncio.run(pilot.optimize([None], "q"))
    with pytest.raises(TypeError, match="pilot must be a ContextPilot"):
        cp.AsyncContextPilot("http://127.0.0.1")  # type: ignore[arg-type]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opens for the tokenizer below; opened in the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


def slow_pilot(gate: threading.Event, entered: threading.Semaphore) -> cp.AsyncContextPilot:
    def count(text: str) -> int:
        entered.release()
        assert gate.wait(60)
        return len(text) // 4

    return cp.AsyncContextPilot(cp.ContextPilot(tokenizer=count))


def test_the_loop_goes_on_while_a_plan_is_made(gate: threading.Event) -> None:
    pilot = slow_pilot(gate, threading.Semaphore(0))

    async def ask() -> list[str]:
        planning = asyncio.create_task(pilot.optimize(TEXTS[:1], "q"))
        seen = []
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append("the loop")
        assert not planning.done()
        gate.set()
        await planning
        return seen

    assert len(asyncio.run(ask())) == 3


def test_nothing_is_believed_of_a_call_that_was_cancelled(gate: threading.Event) -> None:
    entered = threading.Semaphore(0)
    pilot = slow_pilot(gate, entered)

    async def cancel() -> None:
        calls = [asyncio.create_task(pilot.optimize(TEXTS[n : n + 2], "q")) for n in range(8)]
        for _ in range(4):  # threads plan, the other calls wait for their turn
            await asyncio.to_thread(entered.acquire)
        for call in calls:
            call.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*calls, return_exceptions=True)
        )

    asyncio.run(cancel())
    gate.set()
    deadline = time.monotonic() + 60
    while pilot.pilot.stats()["default"]["requests"] < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    awaited._PLANNERS.submit(int).result()
    while pilot.pilot.stats()["default"]["num_blocks"] and time.monotonic() < deadline:
        time.sleep(0.01)
    told = pilot.pilot.stats()["default"]
    assert told["requests"] == 4  # those that waited were not planned at all
    assert told["num_blocks"] == 0
    sent = asyncio.run(pilot.optimize(TEXTS[:2], "q"))
    assert sent.live_tokens == 0


def test_a_call_that_ends_as_it_is_cancelled_is_taken_back() -> None:
    pilot = cp.AsyncContextPilot()

    async def cancel() -> None:
        call = asyncio.create_task(pilot.optimize(TEXTS[:2], "q"))
        await asyncio.sleep(0)
        while not pilot.pilot.stats()["default"]["requests"]:
            time.sleep(0.001)  # the loop stands still, so the result cannot be delivered
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())
    deadline = time.monotonic() + 60
    while pilot.pilot.stats()["default"]["num_blocks"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pilot.pilot.stats()["default"]["num_blocks"] == 0


def test_what_others_hold_stays(gate: threading.Event) -> None:
    pilot = cp.ContextPilot()
    kept = pilot.optimize(TEXTS[:3], "q")
    gone = pilot.optimize([*TEXTS[:3], TEXTS[5]], "q")
    pilot.unsent(gone.request_id, "cp-000000000000000000000000")
    again = pilot.optimize([*TEXTS[:3], TEXTS[5]], "q")
    assert again.live_tokens == kept.total_tokens


def test_an_index_server_is_told_what_was_not_sent() -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as server:
        pilot = cp.ContextPilot(index_url=server.index_url)
        gone = pilot.optimize(TEXTS[:3], "q")
        assert server.stats()["default"]["num_blocks"] == 3
        pilot.unsent(gone.request_id)
        assert server.stats()["default"]["num_blocks"] == 0
        server.close()
        pilot.unsent(gone.request_id)  # it is away: nothing to tell, and no error
        pilot.close()
