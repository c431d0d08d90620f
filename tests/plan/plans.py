"""What the tests of the planners share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from contextpilot.block import Block
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head, OnlinePlanner, Plan
from contextpilot.plan.support import SupportWindow
from contextpilot.plan.tree import MergeTree, agglomerate

WEIGHTS = [20, 30, 40, 50, 60, 70, 80]
contexts = st.lists(st.lists(st.integers(0, 6), max_size=7), max_size=15)
bounds = st.builds(
    Bounds,
    enabled=st.booleans(),
    pin_first=st.integers(0, 3),
    max_shift=st.none() | st.integers(0, 4),
    min_gain_tokens=st.sampled_from([0, 16, 100]),
    displacement_cost=st.sampled_from([0, 10, 50, 1000]),
    anchor=st.sampled_from(["none", "moved", "end"]),
    anchor_blocks=st.integers(0, 3),
)
FULL = Bounds(displacement_cost=0)
"""Moves for whatever may be gained."""


def blocks_of(keys: Sequence[int]) -> list[Block]:
    return [Block(key, str(key), WEIGHTS[key], key) for key in keys]


def new_planner() -> OnlinePlanner:
    return OnlinePlanner(ContextIndex(), SupportWindow())


def run(planner: OnlinePlanner, keys: Sequence[int], limit: Bounds, head: Head = NO_HEAD) -> Plan:
    blocks = blocks_of(keys)
    plan = planner.plan(blocks, limit, head)
    planner.learn(blocks, plan, "r", head)
    return plan


def check_bounds(order: Sequence[int], limit: Bounds) -> None:
    n = len(order)
    assert sorted(order) == list(range(n))
    pinned = n if not limit.enabled else min(n, limit.pin_first)
    assert list(order[:pinned]) == list(range(pinned))
    if limit.max_shift is not None:
        assert all(abs(position - rank) <= limit.max_shift for position, rank in enumerate(order))


def grow(sets: list[frozenset[int]], weights: list[int], min_score: int = 1) -> MergeTree:
    numbers = [np.array(sorted(s), np.int64) for s in sets]
    return agglomerate(
        numbers, np.array(weights), Bounds(min_gain_tokens=min_score, displacement_cost=0)
    )


def leaves_below(tree: MergeTree, node: int) -> list[int]:
    if node < tree.num_contexts:
        return [node]
    return [leaf for child in tree.children[node] for leaf in leaves_below(tree, child)]


def saving(tree: MergeTree, weights: list[int]) -> int:
    return sum(
        (len(children) - 1) * sum(weights[b] for b in tree.shared[node])
        for node, children in tree.children.items()
    )
