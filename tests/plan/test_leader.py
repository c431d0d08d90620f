"""The first of the contexts that share a front: it keeps its order where that loses little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import WEIGHTS, blocks_of, leaves_below, new_planner

from contextpilot.plan import leader as room
from contextpilot.plan.batch import BatchPlanner
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.leader import leader
from contextpilot.plan.tree import MergeTree, agglomerate

orders = st.lists(st.lists(st.integers(0, 6), unique=True, max_size=7), max_size=9)
costs = st.sampled_from([0, 1, 5, 20, 50])


def planned(batch: list[list[int]], bounds: Bounds) -> list[tuple[int, tuple[int, ...]]]:
    planner = new_planner()
    together, blocks = BatchPlanner(planner), [blocks_of(keys) for keys in batch]
    steps = []
    for position, plan in together.walk(blocks, together.prepare(blocks, bounds), bounds):
        planner.learn(blocks[position], plan, str(position))
        steps.append((position, plan.order))
    return steps


def front_above(tree: MergeTree, root: int, leaf: int) -> list[int]:
    """The blocks in front of a context, in the order of its tree."""
    path: list[int] = []
    node = root
    while node != leaf:
        path += [number for number in tree.shared[node].tolist() if number not in path]
        node = next(c for c in tree.children[node] if leaf in leaves_below(tree, c))
    return path


@given(orders, costs, st.sampled_from([0.0, 0.15, 0.5, 1.0]))
@settings(max_examples=200)
def test_a_leader_begins_with_the_front_and_no_other_loses_less(
    contexts: list[list[int]], cost: int, limit: float
) -> None:
    arrays, weights = [np.array(keys, np.int64) for keys in contexts], np.array(WEIGHTS)
    tree = agglomerate(arrays, weights, Bounds(displacement_cost=cost))
    for root in tree.roots:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "_LOST", limit)
            chosen = leader(tree, root, arrays, weights)
        losses = {}
        for leaf in leaves_below(tree, root):
            path, given_order = front_above(tree, root, leaf), contexts[leaf]
            if path and path[0] == given_order[0]:
                same = next((i for i, n in enumerate(path) if given_order[i] != n), len(path))
                losses[leaf] = sum(weights[path[same:]]) / sum(weights[given_order])
        allowed = {leaf: lost for leaf, lost in losses.items() if lost <= limit}
        assert (chosen is None) == (not allowed)
        assert chosen is None or allowed[chosen] == min(allowed.values())


@given(orders, costs, st.sampled_from(["none", "moved", "end"]))
@settings(max_examples=150)
def test_every_context_runs_once_whoever_leads(
    batch: list[list[int]], cost: int, anchor: str
) -> None:
    steps = planned(batch, Bounds(displacement_cost=cost, anchor=anchor))
    assert sorted(position for position, _ in steps) == list(range(len(batch)))
    for position, order in steps:
        assert sorted(order) == list(range(len(batch[position])))


def test_the_first_keeps_its_order_and_the_next_one_hits_what_it_begins_with() -> None:
    batch = [[1, 6, 5], [6, 2, 3], [4, 6, 0]]
    steps = planned(batch, Bounds(displacement_cost=1, anchor="none"))
    assert steps[0] == (1, (0, 1, 2))
    assert dict(steps[1:]) == {0: (1, 0, 2), 2: (1, 0, 2)}
