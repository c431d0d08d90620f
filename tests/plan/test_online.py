"""One context against the index: the longest live prefix, then conditional support."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PathIndex, check_index
from plans import FULL, WEIGHTS, blocks_of, bounds, check_bounds, contexts, new_planner, run

from contextpilot.block import Block
from contextpilot.plan import online
from contextpilot.plan.online import Head, Plan

FREE = replace(FULL, min_gain_tokens=0)


@pytest.mark.slow
@given(contexts, st.data())
@settings(max_examples=300)
def test_plans_are_bounded_permutations_and_live_blocks_are_the_prompts_own(
    history: list[list[int]], data: st.DataObject
) -> None:
    """What counts as live is exactly the longest head that an earlier prompt began with."""
    planner, prompts = new_planner(), PathIndex()
    for keys in history:
        limit = data.draw(bounds)
        plan = run(planner, keys, limit)
        check_bounds(plan.order, limit)
        prompt = [keys[rank] for rank in plan.order]
        assert plan.num_live == prompts.insert(prompt)
        assert check_index(planner.index) == prompts.paths


@given(contexts, st.lists(st.integers(0, 6), unique=True))
@settings(max_examples=200)
def test_a_free_plan_takes_the_heaviest_live_prefix(history: list[Any], keys: list[int]) -> None:
    planner, prompts = new_planner(), PathIndex()
    for context in history:
        plan = run(planner, context, FREE)
        prompts.insert([context[rank] for rank in plan.order])
    plan = planner.plan(blocks_of(keys), FREE)
    live = sum(WEIGHTS[keys[rank]] for rank in plan.order[: plan.num_live])
    assert live == prompts.heaviest({key: WEIGHTS[key] for key in keys})


def test_heads_keep_prompts_apart() -> None:
    planner = new_planner()
    one, two = Head((("head", b"1"),), 10), Head((("head", b"2"),), 10)
    run(planner, [1, 2, 3], FULL, one)
    assert planner.plan(blocks_of([3, 2, 1]), FULL, one) == Plan((2, 1, 0), 3)
    assert planner.plan(blocks_of([3, 2, 1]), FULL, two).num_live == 0


def test_nothing_moves_for_a_gain_below_the_least() -> None:
    planner = new_planner()
    run(planner, [0, 1], FULL)
    keys = [5, 6, 0]
    assert planner.plan(blocks_of(keys), replace(FULL, min_gain_tokens=20)).order == (2, 0, 1)
    assert planner.plan(blocks_of(keys), replace(FULL, min_gain_tokens=21)).order == (0, 1, 2)


def test_support_orders_what_is_not_live() -> None:
    planner = new_planner()
    run(planner, [0, 1, 2, 3], FULL)
    planner.index.clear()
    assert planner.plan(blocks_of([6, 5, 3, 0]), FULL).order == (2, 3, 0, 1)


def test_ends_count_the_head_and_every_copy() -> None:
    planner = new_planner()
    head = Head((("head", b""),), 7)
    blocks = blocks_of([0, 1, 0])
    planner.learn(blocks, Plan((0, 1, 2), 0), "r", head)
    assert planner.index.live_tokens("r") == 7 + 20 + 30 + 20
    planner.index.truncate("r", 7 + 20)
    assert planner.index.live_tokens("r") == 7 + 20
    assert planner.finish(blocks, (0, 1, 2), head).num_live == 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 10_000])
def test_any_number_of_blocks(n: int) -> None:
    planner = new_planner()
    blocks = [Block(key, "", 9, key) for key in range(n)]
    for context in (blocks, blocks[::-1], blocks[::2] + blocks[1::2]):
        plan = planner.plan(context, FULL)
        planner.learn(context, plan, "r")
        assert [context[rank].key for rank in plan.order] == list(range(n))
    assert plan.num_live == n


def test_the_order_stays_behind_a_head_that_was_never_sent() -> None:
    """A conversation's own history: what recurs elsewhere cannot be cached behind it."""
    planner = new_planner()
    system = Head((("head", b"s"),), 10)
    run(planner, [1, 2, 3], FULL, system)
    for turn in range(80):
        history = Head((*system.keys, ("message", str(turn))), 100)
        assert run(planner, [3, 2, 1], FULL, history) == Plan((0, 1, 2), 0)
    assert planner.plan(blocks_of([3, 2, 1]), FULL, system) == Plan((2, 1, 0), 3)


def test_a_head_that_was_seen_recurs_even_when_it_is_not_cached_any_more() -> None:
    planner, head = new_planner(), Head((("head", b"s"),), 10)
    assert run(planner, [1, 2, 3], FULL, head).order == (0, 1, 2)
    planner.index.clear()
    assert run(planner, [5, 3, 1], FULL, head) == Plan((1, 2, 0), 0)
    beyond = Head((*head.keys, 3, 1), 10)
    assert planner.recurs(beyond)  # the path of another prompt


def test_heads_are_forgotten_beyond_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_MAX_HEADS", 2)
    planner = new_planner()
    heads = [Head((("head", number),), 10) for number in range(3)]
    for head in heads:
        run(planner, [1, 2, 3], FULL, head)
        run(planner, [1, 2, 3], FULL, heads[0])
    planner.index.clear()
    assert [planner.recurs(head) for head in heads] == [True, False, True]


def test_a_caller_who_asks_for_no_gain_gets_every_order() -> None:
    planner, head = new_planner(), Head((("head", b"new"),), 10)
    run(planner, [1, 2, 3], FULL)
    assert planner.plan(blocks_of([5, 3, 1]), FULL, head).order == (0, 1, 2)
    assert planner.plan(blocks_of([5, 3, 1]), FREE, head).order == (1, 2, 0)


@pytest.mark.parametrize(("held", "is_small"), [(50, True), (1_500, False)])
def test_how_small_a_cache_is_shows_beyond_the_window_of_contexts(
    held: int, is_small: bool
) -> None:
    """Of 2,048 recent contexts of three blocks of their own the cache keeps so many."""
    planner = new_planner()
    for number in range(5_000):
        blocks = [Block(key, "", 100, key) for key in range(3 * number, 3 * number + 3)]
        planner.learn(blocks, planner.plan(blocks, FULL), str(number))
        if number >= held:
            planner.index.truncate(str(number - held), 0)
        if number >= 2_500:
            assert planner.has_small_cache == is_small
    assert len(planner.window) == 2_048
