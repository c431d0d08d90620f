"""Windows: live content and other waiting contexts compete by weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plans import leaves_below

from contextpilot.block import Block
from contextpilot.index import ContextIndex
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import OnlinePlanner
from contextpilot.plan.support import SupportWindow
from contextpilot.plan.window import merge_window

contexts = st.lists(st.sets(st.integers(0, 9), max_size=6), max_size=8)

EVERY_TOKEN = Bounds(min_gain_tokens=1, displacement_cost=0)


def arrays(sets: Sequence[set[int]]) -> list[np.ndarray]:
    return [np.array(sorted(numbers), np.int64) for numbers in sets]


@given(contexts, st.sets(st.integers(0, 9)), st.lists(st.integers(1, 50), min_size=10, max_size=10))
def test_trees_share_what_all_below_share_and_no_gain_is_left(
    sets: list[set[int]], held: set[int], weights: list[int]
) -> None:
    def live(numbers: Sequence[int]) -> int:
        return sum(weights[number] for number in numbers if number in held)

    tree = merge_window(arrays(sets), np.array(weights, np.int64), live, EVERY_TOKEN)
    assert sorted(leaf for root in tree.roots for leaf in leaves_below(tree, root)) == list(
        range(len(sets))
    )
    shared = dict(enumerate(sets))
    for node, numbers in tree.shared.items():
        below = [sets[leaf] for leaf in leaves_below(tree, node)]
        shared[node] = set.intersection(*below)
        assert set(numbers.tolist()) == shared[node]
    for a in tree.roots:
        for b in tree.roots:
            both = sorted(shared[a] & shared[b])
            gain = sum(weights[n] for n in both) + live(both)
            assert a == b or gain - live(sorted(shared[a])) - live(sorted(shared[b])) < 1
    assert [live(sorted(shared[root])) for root in tree.roots] == sorted(
        (live(sorted(shared[root])) for root in tree.roots), reverse=True
    )


def plan(waiting: list[list[int]], ran: list[int], weights: dict[int, int]) -> list[list[int]]:
    """Plan a window after one context ran; return the ordered keys in execution order."""

    def blocks(keys: list[int]) -> list[Block]:
        return [Block(key, "", weights.get(key, 100), key) for key in keys]

    online = OnlinePlanner(ContextIndex(), SupportWindow())
    online.learn(blocks(ran), online.plan(blocks(ran), Bounds()), "earlier")
    planner, given = BatchPlanner(online), [blocks(keys) for keys in waiting]
    ordered = []
    for position, step in planner.walk(given, planner.prepare(given, Bounds()), Bounds()):
        online.learn(given[position], step, f"{position}")
        ordered.append([given[position][rank].key for rank in step.order])
    return ordered


def test_a_heavy_live_prefix_wins_over_a_light_overlap() -> None:
    ordered = plan([[9, 1, 2], [9, 3, 4]], ran=[1, 2], weights={9: 50})
    assert ordered[0][:2] == [1, 2]


def test_a_heavy_overlap_wins_over_a_light_live_prefix() -> None:
    ordered = plan([[9, 8, 1], [9, 8, 2]], ran=[1, 5], weights={1: 50})
    assert {tuple(keys[:2]) for keys in ordered} == {(9, 8)}


def test_the_live_content_that_goes_first_is_used_first() -> None:
    ordered = plan([[7, 6], [2, 1], [6, 7]], ran=[1, 2], weights={})
    assert ordered == [[1, 2], [7, 6], [7, 6]]
