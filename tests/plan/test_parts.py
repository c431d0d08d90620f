"""Batches in parts: nothing is lost, runs are contiguous, cuts fall where they cost least."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.block import Block
from contextpilot.plan.parts import clusters, runs_of

SHARED = st.lists(st.integers(0, 50), max_size=60)


@given(SHARED, st.integers(1, 9), st.floats(0, 0.49))
def test_runs_are_the_order_cut_where_least_is_shared(
    shared: list[int], count: int, slack: float
) -> None:
    order = list(range(len(shared)))
    runs = runs_of(order, count, shared, slack)
    assert [one for run in runs for one in run] == order
    assert len(runs) == count
    even = runs_of(order, count)
    assert max(map(len, even)) - min(map(len, even)) <= 1
    room = int(slack * (len(order) // count))
    for run, plain in zip(runs[1:], even[1:], strict=True):
        if run and plain:
            assert abs(run[0] - plain[0]) <= room
            assert shared[run[0]] <= shared[plain[0]]


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        runs_of([1], 0)
    with pytest.raises(ValueError, match="slack must be at least 0 and below"):
        runs_of([1], 1, slack=0.5)
    with pytest.raises(ValueError, match="max_size must be at least 1"):
        clusters([], 0, lambda some: range(len(some)))


def block(name: int) -> Block:
    return Block(name, str(name), 10, name)


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=40), st.integers(1, 12))
def test_every_context_is_in_one_cluster_that_is_not_too_large(
    names: list[list[int]], max_size: int
) -> None:
    contexts = [[block(name) for name in one] for one in names]
    groups = clusters(contexts, max_size, lambda some: range(len(some)))
    assert sorted(one for group in groups for one in group) == list(range(len(contexts)))
    assert all(0 < len(group) <= max_size for group in groups)


def test_topics_stay_together() -> None:
    """Topics of eight contexts each, shuffled: far fewer are cut than clusters could cut."""
    topics = [one for one in range(20) for _ in range(8)]
    random.Random(3).shuffle(topics)
    contexts = [[block(100 * topic + at) for at in range(5)] for topic in topics]

    def plan(some: list[list[Block]]) -> list[int]:
        return sorted(range(len(some)), key=lambda at: some[at][0].key)

    groups = clusters(contexts, 40, plan)
    assert len(groups) == 4
    parts = {(number, topics[at]) for number, group in enumerate(groups) for at in group}
    assert len(parts) <= 20 + 3
