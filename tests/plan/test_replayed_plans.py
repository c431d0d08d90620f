"""Recorded requests, replayed in each way through caches of all sizes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from plans import WEIGHTS, blocks_of

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.replay import MODES, hit_bound, replay, replay_each

RNG = random.Random(7)
CONTEXTS = [blocks_of(RNG.sample(range(len(WEIGHTS)), 5)) for _ in range(40)]
FREE = Bounds(min_gain_tokens=0, displacement_cost=0)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_asks_for_all_and_hits_no_more_than_can_be(mode: Any) -> None:
    asked = sum(block.weight for context in CONTEXTS for block in context)
    bound = hit_bound(CONTEXTS)
    assert bound.tokens == asked
    for capacity in (None, 0, 500):
        totals = replay(CONTEXTS, mode, capacity, window=8, bounds=FREE)
        assert totals.tokens == asked
        assert totals.hits <= bound.hits
        if capacity == 0:
            assert totals.hits == 0


def test_plans_of_all_others_hit_more_than_those_of_none() -> None:
    plain, online, batch = (
        replay(CONTEXTS, mode, bounds=FREE).hits for mode in ("plain", "online", "batch")
    )
    assert plain < online < batch


@pytest.mark.parametrize("mode", MODES)
def test_caches_are_replayed_each_by_itself(mode: Any) -> None:
    capacities = [None, 2_000, 100]
    told: list[tuple[int, int]] = []
    totals = replay_each(
        CONTEXTS, mode, capacities, 8, bounds=FREE, progress=lambda *at: told.append(at)
    )
    assert totals == [replay(CONTEXTS, mode, one, 8, bounds=FREE) for one in capacities]
    assert told == sorted(told)
    done, total = told[-1]
    assert done == total > 0


def test_what_is_none_of_them_is_named() -> None:
    with pytest.raises(ValueError, match="mode must be one of plain, online, synced, window"):
        replay(CONTEXTS, "random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window must be at least 1, but is 0"):
        replay(CONTEXTS, "window", window=0)
