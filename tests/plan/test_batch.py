"""Whole batches: permutations, shared prefixes, live content, bounds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import (
    WEIGHTS,
    blocks_of,
    bounds,
    check_bounds,
    contexts,
    grow,
    new_planner,
    run,
    saving,
)

from contextpilot.block import Block
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head, OnlinePlanner
from contextpilot.plan.overlaps.base import set_matrix
from contextpilot.plan.overlaps.bound import spanning_bound
from contextpilot.plan.simulate import simulate

FREE = Bounds(min_gain_tokens=0, displacement_cost=0)


def run_batch(
    planner: OnlinePlanner,
    batch: Sequence[Sequence[Block]],
    limit: Bounds = FREE,
    head: Head = NO_HEAD,
) -> tuple[list[list[Any]], list[int]]:
    """Plan and learn a batch; return the prompts' keys and the execution order."""
    planning = BatchPlanner(planner)
    groups = planning.prepare(batch, limit, head)
    prompts, order = [], []
    for position, plan in planning.walk(batch, groups, limit, head):
        check_bounds(plan.order, limit)
        prompts.append([batch[position][rank].key for rank in plan.order])
        assert plan.num_live == max(
            0, planner.index.match([*head.keys, *prompts[-1]]) - len(head.keys)
        )
        planner.learn(batch[position], plan, str(position), head)
        order.append(position)
    assert sorted(order) == list(range(len(batch)))
    return prompts, order


@given(contexts, contexts, bounds)
@settings(max_examples=200)
def test_plans_are_bounded_permutations_also_against_a_live_index(
    before: list[list[int]], batch: list[list[int]], limit: Bounds
) -> None:
    planner = new_planner()
    for keys in before:
        run(planner, keys, FREE)
    prompts, order = run_batch(planner, [blocks_of(keys) for keys in batch], limit)
    for position, prompt in zip(order, prompts, strict=True):
        assert sorted(prompt) == sorted(batch[position])


@pytest.mark.slow
@given(contexts)
@settings(max_examples=200)
def test_the_walk_saves_what_the_tree_shares_and_never_more_than_the_bound(
    batch: list[list[int]],
) -> None:
    prompts, _ = run_batch(new_planner(), [blocks_of(keys) for keys in batch])
    sets = [frozenset(keys) for keys in batch]
    own = [list(dict.fromkeys(prompt)) for prompt in prompts]
    hits = simulate(own, dict(enumerate(WEIGHTS))).hits
    assert hits >= saving(grow(sets, WEIGHTS), WEIGHTS)
    matrix = set_matrix([np.array(sorted(s), np.int64) for s in sets], len(WEIGHTS))
    assert hits <= spanning_bound(matrix, np.array(WEIGHTS))


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 6), unique=True), max_size=12))
@settings(max_examples=200)
def test_without_repeats_the_walk_saves_exactly_what_the_tree_shares(
    batch: list[list[int]],
) -> None:
    planner = new_planner()
    planning = BatchPlanner(planner)
    blocks = [blocks_of(keys) for keys in batch]
    groups = planning.prepare(blocks, FREE)
    walked = list(planning.walk(blocks, groups, FREE))
    prompts = [[batch[i][rank] for rank in plan.order] for i, plan in walked]
    tree = grow([frozenset(keys) for keys in batch], WEIGHTS)
    assert simulate(prompts, dict(enumerate(WEIGHTS))).hits == saving(tree, WEIGHTS)


@pytest.mark.slow
@given(contexts, st.integers(1, 3))
@settings(max_examples=100)
def test_only_contexts_with_the_same_pinned_blocks_share_a_tree(
    batch: list[list[int]], pinned: int
) -> None:
    limit = Bounds(pin_first=pinned, min_gain_tokens=0, displacement_cost=0)
    prompts, order = run_batch(new_planner(), [blocks_of(keys) for keys in batch], limit)
    for position, prompt in zip(order, prompts, strict=True):
        assert prompt[:pinned] == batch[position][:pinned]


def test_order_off_keeps_everything_as_it_came() -> None:
    batch = [blocks_of(keys) for keys in ([3, 1], [1, 3], [2, 2, 0])]
    prompts, order = run_batch(new_planner(), batch, Bounds(enabled=False))
    assert order == [0, 1, 2]
    assert prompts == [[3, 1], [1, 3], [2, 2, 0]]


def test_what_gains_nothing_keeps_its_order() -> None:
    batch = [blocks_of(keys) for keys in ([3, 1, 3], [2, 2, 0])]
    prompts, _ = run_batch(new_planner(), batch, Bounds())
    assert prompts == [[3, 1, 3], [2, 2, 0]]


def test_shared_blocks_lead_by_mean_original_rank() -> None:
    prompts, order = run_batch(new_planner(), [blocks_of(k) for k in ([0, 2, 5, 1], [2, 6, 1])])
    assert order == [0, 1]
    assert prompts == [[2, 1, 0, 5], [2, 1, 6]]


@given(contexts, contexts)
@settings(max_examples=100)
def test_a_batch_keeps_every_order_at_a_cost_beyond_every_gain(
    before: list[list[int]], batch: list[list[int]]
) -> None:
    planner = new_planner()
    for keys in before:
        run(planner, keys, FREE)
    prompts, order = run_batch(
        planner, [blocks_of(keys) for keys in batch], Bounds(displacement_cost=10**9)
    )
    assert [batch[position] for position in order] == prompts


def test_a_few_shared_tokens_are_not_worth_two_contexts_order() -> None:
    light, heavy = [[0, 1, 2, 6], [3, 4, 5, 6]], [[0, 1, 2, 6], [0, 1, 2, 5]]
    for batch, is_shared in ((light, False), (heavy, True)):
        blocks = [blocks_of(keys) for keys in batch]
        prompts, order = run_batch(new_planner(), blocks, Bounds(displacement_cost=90))
        assert (prompts[0][0] == prompts[1][0]) == is_shared
        assert prompts == [batch[position] for position in order]
    prompts, _ = run_batch(new_planner(), [blocks_of(keys) for keys in light])
    assert prompts[0][0] == prompts[1][0] == 6


def test_anchored_blocks_of_a_batch_are_not_shared_and_stand_last() -> None:
    limit = Bounds(displacement_cost=0, min_gain_tokens=0, anchor="end")
    batch = [[6, 1, 2, 3], [6, 4, 3, 2], [5, 6, 2, 3]]
    prompts, order = run_batch(new_planner(), [blocks_of(keys) for keys in batch], limit)
    for position, prompt in zip(order, prompts, strict=True):
        assert prompt[-1] == batch[position][0]
        assert {*prompt[:2]} == {2, 3}


@pytest.mark.parametrize(("count", "shares_best"), [(4, True), (12, False)])
def test_a_batch_of_short_contexts_shares_their_best_block(count: int, shares_best: bool) -> None:
    def context(*keys: int) -> list[Block]:
        return [Block(key, "", 100, None) for key in keys]

    common = [*range(count - 1)]
    prompts, _ = run_batch(new_planner(), [context(*common, 20), context(*common, 21)], Bounds())
    assert [prompt[-1] == 0 for prompt in prompts] == [not shares_best] * 2


def test_a_live_prefix_that_outweighs_the_neighbours_is_joined() -> None:
    planner = new_planner()
    run(planner, [6, 5, 4], FREE)
    prompts, _ = run_batch(planner, [blocks_of([0, 4, 5, 6]), blocks_of([0, 1, 2])])
    assert [6, 5, 4, 0] in prompts


def test_a_heavy_neighbour_outweighs_a_light_live_prefix() -> None:
    planner = new_planner()
    run(planner, [0, 1], FREE)
    prompts, _ = run_batch(planner, [blocks_of([0, 4, 5, 6]), blocks_of([4, 5, 6])])
    assert {*prompts[0][:3]} == {*prompts[1][:3]} == {4, 5, 6}


def test_small_caches_keep_nearly_the_whole_saving() -> None:
    """The walk is the execution order, so what comes next needs what came last."""
    draw = random.Random(5)
    weights = dict.fromkeys(range(300), 100)
    batch = [[Block(key, "", 100, key) for key in draw.sample(range(300), 10)] for _ in range(300)]
    prompts, _ = run_batch(new_planner(), batch)
    free = simulate(prompts, weights).hits
    total = 300 * 10 * 100
    assert simulate(prompts, weights, total // 20).hits >= 0.95 * free
    assert simulate(batch_keys(batch), weights).hits < 0.5 * free


def batch_keys(batch: Sequence[Sequence[Block]]) -> list[list[Any]]:
    return [[block.key for block in context] for context in batch]


@pytest.mark.parametrize("batch", [[], [[]], [[], []], [[1], []], [[0]]])
def test_next_to_nothing(batch: list[list[int]]) -> None:
    prompts, _ = run_batch(new_planner(), [blocks_of(keys) for keys in batch])
    assert sorted(prompts) == sorted(batch)


def test_contexts_of_10_000_blocks() -> None:
    blocks = [Block(key, "", 9, key) for key in range(10_000)]
    prompts, _ = run_batch(new_planner(), [blocks, blocks[::-1], blocks[5_000:]])
    assert simulate(prompts, {b.key: 9 for b in blocks}).hits == 15_000 * 9
    assert all(len(set(prompt)) == len(prompt) for prompt in prompts)


def test_the_index_is_read_under_the_lock_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lock:
        held = False

        def __enter__(self) -> None:
            self.held = True

        def __exit__(self, *exception: object) -> None:
            self.held = False

    planner, lock = new_planner(), Lock()
    run(planner, [0, 1, 2], FREE)
    search, searches = planner.index.longest_prefix, []

    def watched(*arguments: Any) -> list[Any]:
        searches.append(lock.held)
        return search(*arguments)

    monkeypatch.setattr(planner.index, "longest_prefix", watched)
    BatchPlanner(planner, lock).prepare([blocks_of([0, 1]), blocks_of([1, 2])], FREE)
    assert searches == [True, True]
    assert not lock.held
