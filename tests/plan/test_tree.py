"""The tree of contexts: its invariants, and its distance from the best tree there is."""

from __future__ import annotations

import random
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import optimal_saving, overlap
from plans import FULL, grow, leaves_below, saving

from contextpilot.plan.overlaps import partners
from contextpilot.plan.simulate import simulate
from contextpilot.plan.tree import MergeTree, agglomerate

set_lists = st.lists(st.frozensets(st.integers(0, 9), max_size=6), max_size=14)
weight_lists = st.lists(st.integers(1, 50), min_size=10, max_size=10)


def check_tree(
    tree: MergeTree, sets: list[frozenset[int]], weights: list[int], min_score: int = 1
) -> None:
    leaves = [leaf for root in tree.roots for leaf in leaves_below(tree, root)]
    assert sorted(leaves) == list(range(len(sets)))
    for node, children in tree.children.items():
        assert len(children) > 1
        below = [sets[leaf] for leaf in leaves_below(tree, node)]
        assert sorted(tree.shared[node].tolist()) == sorted(frozenset.intersection(*below))
    shares = [
        frozenset(tree.shared[root].tolist()) if root in tree.shared else sets[root]
        for root in tree.roots
    ]
    for a, b in combinations(shares, 2):
        assert overlap(a, b, dict(enumerate(weights))) < max(1, min_score)


@pytest.mark.slow
@given(set_lists, weight_lists, st.integers(0, 60))
@settings(max_examples=200)
def test_shared_sets_are_intersections_and_roots_share_nothing(
    sets: list[frozenset[int]], weights: list[int], min_score: int
) -> None:
    check_tree(grow(sets, weights, min_score), sets, weights, min_score)


@given(set_lists, weight_lists, st.sampled_from([-1, 5, 40]), st.sampled_from([0.0, 1e9]))
@settings(max_examples=120)
def test_invariants_hold_in_the_approximate_regime(
    sets: list[frozenset[int]], weights: list[int], exact: int, worth: float
) -> None:
    """All search a sample, or some among all sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partners, "_EXACT_PAIRS", exact)
        patch.setattr(partners, "_EXACT_PAIRS_PER_SET", 0)
        patch.setattr(partners, "_WORTH", worth)
        patch.setattr(partners, "_SAMPLED_PAIRS", 0)
        patch.setattr(partners, "_PAIRS_PER_ROW", 10)
        check_tree(grow(sets, weights), sets, weights)


def test_equal_contexts_collapse_first() -> None:
    a, b = frozenset({1, 2}), frozenset({2, 3})
    tree = grow([a, b, a, a], [1] * 4)
    assert tree.children[4] == [0, 2, 3]
    assert sorted(tree.shared[4].tolist()) == [1, 2]


def test_empty_contexts_stand_together() -> None:
    tree = grow([frozenset(), frozenset({1}), frozenset()], [1, 1])
    check_tree(tree, [frozenset(), frozenset({1}), frozenset()], [1, 1])
    assert grow([], [1]).roots == []


def test_progress_only_grows() -> None:
    sets = [frozenset({i // 2, 10 + i // 4}) for i in range(32)]
    seen: list[tuple[int, int]] = []
    numbers = [np.array(sorted(s)) for s in sets]
    agglomerate(numbers, np.ones(20, np.int64), FULL, lambda *step: seen.append(step))
    assert seen == sorted(seen)
    assert all(done <= total == 32 for done, total in seen)


@given(
    st.lists(st.frozensets(st.integers(0, 3), max_size=3), max_size=3),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
@settings(max_examples=60)
def test_the_best_tree_is_the_best_of_all_orders(
    sets: list[frozenset[int]], weights: list[int]
) -> None:
    """The oracle itself: no choice of orders saves more than the best tree."""
    by_block = dict(enumerate(weights))
    best, stack = 0, [[]]
    for blocks in sets:
        stack = [[*prompts, order] for prompts in stack for order in permutations(sorted(blocks))]
    for prompts in stack:
        best = max(best, simulate(prompts, by_block).hits)
    assert optimal_saving(sets, by_block) == best


def tiny_case(draw: random.Random) -> tuple[list[frozenset[int]], list[int]]:
    num_blocks = draw.randint(4, 9)
    sets = [
        frozenset(draw.sample(range(num_blocks), draw.randint(1, min(5, num_blocks))))
        for _ in range(draw.randint(2, 6))
    ]
    return sets, [draw.randint(10, 100) for _ in range(num_blocks)]


@pytest.mark.slow
def test_most_tiny_cases_reach_the_optimum() -> None:
    draw = random.Random(1)
    ratios = []
    for _ in range(400):
        sets, weights = tiny_case(draw)
        found = saving(grow(sets, weights), weights)
        best = optimal_saving(sets, dict(enumerate(weights)))
        assert found <= best
        ratios.append(found / best if best else 1.0)
    assert sum(ratio == 1 for ratio in ratios) >= 0.9 * len(ratios)
    assert sum(ratios) >= 0.99 * len(ratios)
