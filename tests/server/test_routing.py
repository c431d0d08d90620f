"""Routing: the table of who goes where, and the tree of who holds what against the indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import check_index

from contextpilot.block import Block
from contextpilot.index import ContextIndex
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head
from contextpilot.planning import Job
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.holders import Holders, HolderTree
from contextpilot.server.pool.routing import STICKY_TOKENS, Standing, cheapest, with_home

IDLE = (0, 0, 0), (1, 0, 0), (2, 0, 0)


@pytest.mark.parametrize(
    ("standings", "live", "expected"),
    [
        (IDLE, {}, (0, 0)),
        (((0, 0, 5), (1, 0, 4)), {}, (1, 0)),  # the one that served least
        (IDLE, {2: 1}, (2, 1)),
        (IDLE, {1: 500, 2: 400}, (1, 500)),
        (((0, 0, 0), (1, 500, 0)), {1: 400}, (0, 0)),  # load outweighs it
        (((0, 0, 0), (1, 500, 0)), {1: 501}, (1, 501)),
        (((0, 9, 0), (2, 9, 0)), {1: 700}, (0, 0)),  # 1 is no candidate
    ],
)
def test_a_request_goes_where_it_costs_least(
    standings: Sequence[Standing], live: dict[int, int], expected: tuple[int, int]
) -> None:
    assert cheapest(standings, live) == expected


@pytest.mark.parametrize(
    ("live", "home", "head", "expected"),
    [
        ({}, None, 0, {}),
        ({1: 5}, None, 9, {1: 5}),
        ({}, 1, 0, {1: STICKY_TOKENS}),
        ({}, 1, 70, {1: 70 + STICKY_TOKENS}),
        ({0: 3, 1: 90}, 1, 70, {0: 3, 1: 90 + STICKY_TOKENS}),
    ],
)
def test_a_conversation_has_a_home(
    live: dict[int, int], home: int | None, head: int, expected: Mapping[int, int]
) -> None:
    assert with_home(live, home, head) == expected


# -- the tree of holders ---------------------------------------------------------------------------

NUM_ENGINES = 3
paths = st.lists(st.integers(0, 5), max_size=6, unique=True).map(tuple)
engines = st.integers(0, NUM_ENGINES - 1)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), engines, paths),
        st.tuples(st.just("insert"), engines, paths),
        st.tuples(st.just("cut"), engines, paths, st.integers(0, 6)),
        st.tuples(st.just("empty"), engines),
        st.tuples(st.just("clear"), engines),
    ),
    max_size=60,
)


def check_tree(tree: HolderTree | None) -> list[set[Any]]:
    """Check the tree's invariants; return by engine the paths that it holds."""
    held: list[set[Any]] = [set() for _ in range(NUM_ENGINES)]
    stack = [(tree.root, (), -1)] if tree is not None else []
    while stack:
        node, path, above = stack.pop()
        for first, child in node.children.items():
            assert child.keys[0] == first
            assert child.mask
            assert not child.mask & ~above, "a bit that the parent lacks"
            whole = (*path, *child.keys)
            for number, bit in tree._bits.items():  # type: ignore[union-attr]
                if child.mask & bit:
                    held[number].update(whole[:n] for n in range(len(path) + 1, len(whole) + 1))
            stack.append((child, whole, child.mask))
    return held


def live_at(index: ContextIndex, head: Head, weights: dict[Any, int]) -> int:
    """What one engine holds, found by searching its own index."""
    matched = index.match(head.keys)
    if matched < len(head.keys):
        return head.tokens * matched // len(head.keys)
    return head.tokens + sum(weights[k] for k in index.longest_prefix(weights, head.keys))


@pytest.mark.slow
@given(
    operations,
    st.integers(1, 30),
    paths,
    st.dictionaries(st.integers(0, 5), st.integers(1, 9)),
)
@settings(max_examples=300, deadline=None)
def test_the_tree_holds_what_the_indexes_hold(
    todo: list[Any], bound: int, start: Any, weights: dict[int, int]
) -> None:
    holders = Holders()
    indexes = [ContextIndex(bound) for _ in range(NUM_ENGINES)]
    for number, index in enumerate(indexes):
        index.watch = holders.watcher(number)("n")
    for name, number, *arguments in todo:
        getattr(indexes[number], name)(*arguments)
        assert check_tree(holders.tree("n")) == [check_index(index) for index in indexes]
    for head in (NO_HEAD, Head(start, 20 * len(start))):
        rest = {key: weight for key, weight in weights.items() if key not in head.keys}
        found = holders.live_tokens("n", head, rest)
        expected = [live_at(index, head, rest) for index in indexes]
        assert [found.get(number, 0) for number in range(NUM_ENGINES)] == expected
        assert holders.live_tokens("other", head, rest) == {}


def test_engines_that_restart_for_ever_leave_no_bits_behind() -> None:
    holders = Holders()
    first, second = (ContextIndex() for _ in range(2))
    first.watch, second.watch = holders.watcher(0)("n"), holders.watcher(1)("n")
    second.insert(["system", "a"])
    for number in range(2_000):
        for step in range(4):
            first.insert(["system", number, step])
        first.empty()
        second.insert(["system", "a", number % 7])
    tree = holders.tree("n")
    assert tree is not None
    assert len(tree._numbers) < 20
    assert holders.live_tokens("n", Head(("system",), 9), {"a": 3}) == {1: 12}
    second.empty()
    assert len(holders) == 0


def test_what_a_look_up_finds_is_never_more_than_there_is() -> None:
    holders = Holders()
    index = ContextIndex()
    index.watch = holders.watcher(0)("n")
    for first in range(60):  # more than one look-up visits
        for second in range(60):
            index.insert([first, second])
    weights = {key: 100 - key for key in range(60)}
    found = holders.live_tokens("n", NO_HEAD, weights)[0]
    assert 0 < found <= live_at(index, NO_HEAD, weights) == 199


# -- tenants ---------------------------------------------------------------------------------------


def test_a_routing_decision_makes_nobodys_index() -> None:
    async def main() -> None:
        pool = EnginePool([f"http://e{n}:1" for n in range(8)], lambda: Namespaces(10_000, 100, 10))
        blocks = [Block(key, f"text {key}", 100, None) for key in range(4)]
        async with pool.lease("tenant", blocks, wait=False):
            assert [len(namespaces) for namespaces in pool.indexes()] == [0] * 8
        async with pool.lease("tenant", blocks) as lease:
            lease.plan(Job("tenant", [blocks], Bounds(), NO_HEAD, [0]))
        assert sorted(len(namespaces) for namespaces in pool.indexes()) == [0] * 7 + [1]

    asyncio.run(main())


def test_a_dropped_namespace_is_held_by_nobody() -> None:
    holders = Holders()
    namespaces = Namespaces(1_000, 10, 2)
    namespaces.watcher = holders.watcher(0)
    dropped = namespaces.get("one").planner.index
    dropped.insert([1, 2])
    for name in ("two", "three"):
        namespaces.get(name).planner.index.insert([1, 2])
    assert holders.live_tokens("one", NO_HEAD, {1: 5}) == {}
    dropped.insert([1, 2])  # by a thread that still plans there
    assert holders.live_tokens("one", NO_HEAD, {1: 5}) == {}
    assert holders.live_tokens("two", NO_HEAD, {1: 5}) == {0: 5}
    namespaces.reset()
    assert len(holders) == 0
