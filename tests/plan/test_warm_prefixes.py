"""What is worth computing beforehand: within the budget, prefixes, and the best of them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import FULL, WEIGHTS, blocks_of

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.simulate import PrefixCache
from contextpilot.plan.warm import outlook, planned_paths, worth_computing

WEIGH = dict(enumerate(WEIGHTS))
paths = st.lists(st.lists(st.integers(0, 6), max_size=5, unique=True).map(tuple), max_size=12)


def computed(prefixes) -> int:
    """Tokens that a cache without bound computes for these prompts, one after the other."""
    cache = PrefixCache()
    for prefix in prefixes:
        cache.request(prefix.keys, WEIGH)
    return cache.totals.prefill_tokens


@given(paths, st.integers(0, 600), st.integers(1, 3))
@settings(max_examples=200)
def test_what_is_kept_is_paid_for_and_used(given_paths, budget, least) -> None:
    kept = worth_computing(given_paths, WEIGH, budget, least)
    assert computed(kept) == sum(prefix.tokens for prefix in kept) <= budget
    uses = Counter(path[:end] for path in given_paths for end in range(1, len(path) + 1))
    assert all(uses[prefix.keys] >= least for prefix in kept)
    ends = {prefix.keys for prefix in kept}
    assert not any(a != b and b[: len(a)] == a for a in ends for b in ends), "each is sent once"
    held = {prefix.keys[:end] for prefix in kept for end in range(1, len(prefix.keys) + 1)}
    assert sum(prefix.earned for prefix in kept) == sum(uses[p] * WEIGH[p[-1]] for p in held)


@given(st.lists(st.lists(st.integers(0, 3), max_size=3, unique=True).map(tuple), max_size=6))
@settings(max_examples=60)
def test_equal_weights_are_a_knapsack_solved_exactly(given_paths) -> None:
    weights = dict.fromkeys(range(4), 10)
    uses = Counter(path[:end] for path in given_paths for end in range(1, len(path) + 1))
    for size in range(4):
        kept = worth_computing(given_paths, weights, 10 * size, least_uses=1)
        best = max(
            (
                sum(10 * uses[path] for path in chosen)
                for number in range(size + 1)
                for chosen in combinations(uses, number)
                if all(len(path) == 1 or path[:-1] in chosen for path in chosen)
            ),
            default=0,
        )
        assert sum(prefix.earned for prefix in kept) == best


def test_a_block_that_does_not_fit_makes_room_for_others() -> None:
    found = worth_computing([(6, 0), (6, 0), (0,), (0,)], WEIGH, budget=79)
    assert [(prefix.keys, prefix.tokens) for prefix in found] == [((0,), 20)]


def test_the_most_used_is_sent_first() -> None:
    found = worth_computing([(1, 2), (1, 2), (3,), (3,), (3,)], WEIGH, budget=1000)
    assert [prefix.keys for prefix in found] == [(3,), (1, 2)]
    assert [prefix.earned for prefix in found] == [150, 140]


@pytest.mark.parametrize("budget", [0, 19])
def test_too_small_a_budget_buys_nothing(budget: int) -> None:
    assert worth_computing([(0,), (0,)], WEIGH, budget) == []


def test_contexts_are_planned_as_a_batch_and_copies_within_one_left_out() -> None:
    found = planned_paths([blocks_of(keys) for keys in ([1, 2, 2, 6], [3, 6], [4, 6])], FULL)
    assert sorted(map(len, found)) == [2, 2, 3]
    assert [path[0] for path in found] == [6, 6, 6]


def test_the_outlook_tells_when_it_pays_and_when_not() -> None:
    alike = [blocks_of([6, 5, number % 3]) for number in range(12)]
    found = outlook(alike, 10_000, bounds=Bounds(displacement_cost=0))
    assert found.spent > 0
    assert found.saved == WEIGHTS[6] + WEIGHTS[5] + sum(WEIGHTS[:3])
    apart = [blocks_of([number]) for number in range(6)]
    assert outlook(apart, 10_000)[1:] == (outlook(apart, 10_000).cold, 0)
    assert outlook([], 10).spent == 0


def test_a_cache_that_holds_nothing_gains_nothing() -> None:
    alike = [blocks_of([6, 5, number % 3]) for number in range(12)]
    assert outlook(alike, 10_000, capacity=0).saved == 0
