"""The simulator against a cache that spells out every path, and the index that follows it."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PathCache, check_index

from contextpilot.block import Block
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.simulate import CacheTotals, PrefixCache, simulate
from contextpilot.plan.support import SupportWindow

WEIGHTS = {key: 1 + key % 3 for key in range(6)}
contexts = st.lists(st.lists(st.integers(0, 5), max_size=5, unique=True), max_size=30)
capacities = st.none() | st.integers(0, 25)


@given(contexts, capacities)
@settings(max_examples=300)
def test_hits_and_evictions_equal_the_oracle(batch: list[list[int]], capacity: int | None) -> None:
    events: list[tuple[Hashable, int]] = []
    expected: list[tuple[Hashable, int]] = []
    cache = PrefixCache(capacity, lambda *event: events.append(event))
    oracle = PathCache(capacity, lambda *event: expected.append(event))
    total = hits = 0
    for number, keys in enumerate(batch):
        hit = cache.request(keys, WEIGHTS, number)
        assert hit == oracle.request(keys, WEIGHTS, number)
        assert events == expected
        assert cache.size == oracle.size(WEIGHTS)
        assert capacity is None or cache.size <= capacity
        total, hits = total + sum(WEIGHTS[key] for key in keys), hits + hit
    assert cache.totals == CacheTotals(total, hits) == simulate(batch, WEIGHTS, capacity)


@given(contexts, st.integers(0, 25), st.booleans())
@settings(max_examples=200)
def test_an_index_fed_with_evictions_holds_exactly_what_the_cache_holds(
    batch: list[list[int]], capacity: int, plan_first: bool
) -> None:
    index = ContextIndex()
    planner = OnlinePlanner(index, SupportWindow())
    evicted: list[tuple[Hashable, int]] = []
    cache = PrefixCache(capacity, lambda *event: evicted.append(event))
    oracle = PathCache(capacity)
    bounds = Bounds(enabled=plan_first, min_gain_tokens=0)
    for number, keys in enumerate(batch):
        blocks = [Block(key, str(key), WEIGHTS[key], key) for key in keys]
        plan = planner.plan(blocks, bounds)
        planner.learn(blocks, plan, str(number))
        ordered = [keys[rank] for rank in plan.order]
        hit = cache.request(ordered, WEIGHTS, str(number))
        assert hit == sum(WEIGHTS[key] for key in ordered[: plan.num_live])
        oracle.request(ordered, WEIGHTS)
        for name, tokens in evicted:
            index.truncate(str(name), tokens)
        evicted.clear()
        assert check_index(index) == set(oracle.held)


def test_a_hit_ends_at_the_first_block_that_is_not_held() -> None:
    cache = PrefixCache()
    assert cache.request("abc", dict.fromkeys("abcx", 10)) == 0
    assert cache.request("abx", dict.fromkeys("abcx", 10)) == 20
    assert cache.request("bca", dict.fromkeys("abcx", 10)) == 0
    assert cache.totals == (90, 20)
    assert cache.totals.prefill_tokens == 70
    assert cache.totals.hit_ratio == pytest.approx(20 / 90)
    assert CacheTotals(0, 0).hit_ratio == 0.0


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        PrefixCache(-1)


def test_a_sparse_cache_keeps_what_was_shared_for_the_third() -> None:
    cache = PrefixCache(is_sparse=True)
    weights = dict.fromkeys("abcdxyz", 10)
    found = [cache.request(keys, weights) for keys in ("abcx", "abcy", "abcz", "abd", "abx", "abc")]
    assert found == [0, 0, 30, 0, 20, 30]
    assert cache.points == [20, 30]


def test_a_sparse_cache_forgets_its_points_with_the_blocks() -> None:
    cache = PrefixCache(40, is_sparse=True)
    weights = dict.fromkeys("abcdxyz", 10)
    assert [cache.request(keys, weights) for keys in ("ab", "ab", "ab")] == [0, 0, 20]
    assert [cache.request(keys, weights) for keys in ("cdxy", "ab", "ab")] == [0, 0, 0]
