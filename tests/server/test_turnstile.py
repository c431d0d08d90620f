"""One piece of work in each round of the event loop, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest

from contextpilot.server.offload import Turnstile


async def rounds(log: list[str]) -> None:
    while True:
        log.append("round")
        await asyncio.sleep(0)


def test_work_that_is_ready_at_once_is_done_in_rounds_and_in_order() -> None:
    async def main() -> list[str]:
        turns, log = Turnstile(), list[str]()
        watching = asyncio.create_task(rounds(log))
        await asyncio.gather(*(turns.run(log.append, f"work {n}") for n in range(20)))
        watching.cancel()
        return log

    log = asyncio.run(main())
    assert [line for line in log if line != "round"] == [f"work {n}" for n in range(20)]
    assert not any(a != "round" != b for a, b in itertools.pairwise(log))


def test_what_fails_passes_its_turn_on() -> None:
    def fail() -> None:
        raise ValueError("bad work")

    async def main() -> list[int]:
        turns, done = Turnstile(), list[int]()
        failing = [turns.run(fail) for _ in range(3)]
        found = await asyncio.gather(*failing, turns.run(done.append, 1), return_exceptions=True)
        assert [type(one) for one in found] == [ValueError] * 3 + [type(None)]
        return done

    assert asyncio.run(main()) == [1]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_cancelled_all_others_come_through(seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> tuple[set[int], set[int]]:
        turns, done = Turnstile(), set[int]()
        tasks = [asyncio.create_task(turns.run(done.add, number)) for number in range(30)]
        kept = set(range(30))
        for _ in range(40):
            await asyncio.sleep(0)
            if chance.random() < 0.5:
                number = chance.randrange(30)
                if tasks[number].cancel():
                    kept.discard(number)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert await asyncio.wait_for(turns.run(lambda: 7), 20) == 7
        return kept, done

    kept, done = asyncio.run(main())
    assert kept <= done
