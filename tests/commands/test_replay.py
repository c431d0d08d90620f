"""Replaying a workload: every mode against a cache that spells out every path."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PathCache

from contextpilot.block import Block
from contextpilot.index import ContextIndex
from contextpilot.pilot import ContextPilot
from contextpilot.plan import replay as module
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.replay import MODES, hit_bound, replay, replay_each
from contextpilot.plan.simulate import CacheTotals, PrefixCache
from contextpilot.plan.support import SupportWindow

WEIGHTS = {key: 20 + 10 * (key % 3) for key in range(7)}
workloads = st.lists(st.lists(st.integers(0, 6), max_size=5, unique=True), max_size=16)
capacities = st.none() | st.integers(0, 250)


def blocks_of(keys):
    return [Block(key, str(key), WEIGHTS[key], key) for key in keys]


def contexts_of(workload):
    return [blocks_of(keys) for keys in workload]


def through(orders, capacity, on_evict=None):
    """Run orders through the oracle; return the sums."""
    cache = PathCache(capacity, on_evict)
    tokens = hits = 0
    for name, keys in orders:
        hits += cache.request(keys, WEIGHTS, name)
        tokens += sum(WEIGHTS[key] for key in keys)
    return CacheTotals(tokens, hits)


@given(workloads, capacities)
@settings(max_examples=40)
def test_plain_order_is_the_cache_alone(workload, capacity):
    assert replay(contexts_of(workload), "plain", capacity) == through(
        enumerate(workload), capacity
    )


@given(workloads, capacities)
@settings(max_examples=40)
def test_online_is_what_the_library_plans_one_by_one(workload, capacity):
    pilot = ContextPilot()
    orders = []
    for name, keys in enumerate(workload):
        order = pilot.optimize([{"id": key, "text": "x" * key * 80} for key in keys], "q").order
        orders.append((name, [keys[rank] for rank in order]))
    blocks = [
        pilot._reader.read([{"id": k, "text": "x" * k * 80} for k in c], "c") for c in workload
    ]
    weights = {b.key: b.weight for context in blocks for b in context}
    cache = PathCache(capacity)
    named = {
        k: b.key for c, bs in zip(workload, blocks, strict=True) for k, b in zip(c, bs, strict=True)
    }
    hits = sum(cache.request([named[k] for k in keys], weights, name) for name, keys in orders)
    assert replay(blocks, "online", capacity).hits == hits


@given(workloads, capacities)
@settings(max_examples=40)
def test_synced_tells_the_planner_of_every_eviction(workload, capacity):
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    gone: deque[tuple[str, int]] = deque()
    cache = PathCache(capacity, lambda name, tokens: gone.append((str(name), tokens)))
    hits = 0
    for name, keys in enumerate(workload):
        blocks = blocks_of(keys)
        plan = planner.plan(blocks, Bounds())
        planner.learn(blocks, plan, str(name))
        hits += cache.request([keys[rank] for rank in plan.order], WEIGHTS, str(name))
        while gone:
            planner.index.truncate(*gone.popleft())
    assert replay(contexts_of(workload), "synced", capacity).hits == hits


@given(workloads, capacities)
@settings(max_examples=40)
def test_batch_is_what_the_planner_orders_in_one_go(workload, capacity):
    contexts = contexts_of(workload)
    planner = OnlinePlanner(ContextIndex(), SupportWindow())
    together = BatchPlanner(planner)
    orders = []
    for position, plan in together.walk(contexts, together.prepare(contexts, Bounds()), Bounds()):
        planner.learn(contexts[position], plan, str(position))
        orders.append((position, [workload[position][rank] for rank in plan.order]))
    assert sorted(position for position, _ in orders) == list(range(len(workload)))
    assert replay(contexts, "batch", capacity) == through(orders, capacity)


class _Spy:
    """Notes what the planner claims of each request, and what the cache then hits."""

    def __init__(self, monkeypatch):
        self.claimed: dict[str, int] = {}
        self.seen: list[tuple[int, int]] = []
        spy = self

        class Planner(OnlinePlanner):
            def learn(self, blocks, plan, request_id, *rest, **named):
                live = plan.order[: plan.num_live]
                spy.claimed[request_id] = sum(blocks[rank].weight for rank in live)
                return super().learn(blocks, plan, request_id, *rest, **named)

        class Cache(PrefixCache):
            def request(self, keys, weights, name=None):
                hits = super().request(keys, weights, name)
                spy.seen.append((spy.claimed[str(name)], hits))
                return hits

        monkeypatch.setattr(module, "OnlinePlanner", Planner)
        monkeypatch.setattr(module, "PrefixCache", Cache)


@pytest.mark.parametrize("mode", ["synced", "window"])
@given(workload=workloads, capacity=st.integers(0, 250), window=st.integers(1, 5))
@settings(max_examples=40)
def test_a_fed_index_never_claims_more_than_the_cache_holds(mode, workload, capacity, window):
    with pytest.MonkeyPatch.context() as patch:
        spy = _Spy(patch)
        replay(contexts_of(workload), mode, capacity, window)
    assert len(spy.seen) == len(workload)
    assert all(claimed <= hits for claimed, hits in spy.seen)


def test_an_index_that_is_not_fed_claims_too_much(monkeypatch):
    spy = _Spy(monkeypatch)
    replay(contexts_of([[0, 1], [2, 3], [0, 1]]), "online", 50)
    assert spy.seen[-1] == (50, 0)


@given(workloads, capacities, st.integers(1, 6))
@settings(max_examples=40)
def test_no_mode_exceeds_the_bound_and_all_ask_for_the_same_tokens(workload, capacity, window):
    contexts = contexts_of(workload)
    bound = hit_bound(contexts)
    for mode in MODES:
        totals = replay(contexts, mode, capacity, window)
        assert totals.tokens == bound.tokens
        assert 0 <= totals.hits <= bound.hits


@pytest.mark.parametrize("mode", MODES)
def test_several_capacities_at_once_equal_one_after_the_other(mode):
    contexts = contexts_of(
        [[i % 7, i * 3 % 7 if i * 3 % 7 != i % 7 else 6 - i % 2] for i in range(20)]
    )
    sizes = [None, 0, 60, 120]
    each = replay_each(contexts, mode, sizes, 4)
    assert each == [replay(contexts, mode, size, 4) for size in sizes]
    assert each[1].hits == 0


@pytest.mark.parametrize("pinned", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_progress_never_goes_back_and_ends_when_all_is_done(mode, pinned):
    seen: list[tuple[int, int]] = []
    contexts = contexts_of([[0, 1, 2], [2, 1], [1, 2, 3], [4], [2, 1, 3], [2, 3, 1]])
    bounds = Bounds(pin_first=pinned)
    replay_each(
        contexts, mode, [None, 50], 2, bounds=bounds, progress=lambda *step: seen.append(step)
    )
    shares = [done / total for done, total in seen]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] == 1


def test_nothing_to_replay():
    for mode in MODES:
        assert replay([], mode) == CacheTotals(0, 0)
        assert replay([[], []], mode, 10) == CacheTotals(0, 0)
    assert hit_bound([]) == hit_bound([[]]) == CacheTotals(0, 0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="mode must be one of plain, online"):
        replay([], "best")
    with pytest.raises(ValueError, match="window must be at least 1"):
        replay([], "window", window=0)
    with pytest.raises(ValueError, match="capacity"):
        replay([], "plain", -1)
