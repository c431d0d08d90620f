"""Routing: the table of who goes where, and the tree of who holds what against the indexes."""

from __future__ import annotations

import asyncio
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
from contextpilot.server.pool.engines_by_prefix import EnginePrefixTree, EnginesByPrefix
from contextpilot.server.pool.routing import STICKY_TOKENS, Standing, choose_engine

A, B, C = ((name, 0, 0, True) for name in "abc")
KEPT = STICKY_TOKENS


def busy(name: str, load: int, served: int = 0) -> Standing:
    return name, load, served, True


def down(name: str) -> Standing:
    return name, 0, 0, False


@pytest.mark.parametrize(
    ("standings", "held", "more", "expected"),
    [
        # nothing told: the first, then the one that served least
        ([A, B, C], {}, {}, ("a", 900)),
        ([busy("a", 0, 5), busy("b", 0, 4)], {}, {}, ("b", 900)),
        ([C, B, A], {}, {}, ("c", 900)),  # the order is that of joining, not of names
        # what is held
        ([A, B, C], {"c": 1}, {}, ("c", 899)),
        ([A, B, C], {"b": 500, "c": 400}, {}, ("b", 400)),
        ([A, B], {"gone": 900, "b": 1}, {}, ("b", 899)),
        ([A], {"a": 2000}, {}, ("a", 0)),
        # against load
        ([A, busy("b", 500)], {"b": 400}, {}, ("a", 900)),
        ([A, busy("b", 500)], {"b": 501}, {}, ("b", 399)),
        ([busy("a", 9), busy("b", 8)], {}, {}, ("b", 900)),
        # a conversation's engine
        ([A, B], {}, {"home": "b"}, ("b", 0)),
        ([A, B], {"a": KEPT - 1}, {"home": "b"}, ("b", 0)),
        ([A, B], {"a": KEPT + 1}, {"home": "b"}, ("a", 0)),
        ([A, B], {"a": KEPT + 1}, {"home": "b", "head_tokens": 70}, ("b", 0)),
        ([A, busy("b", KEPT + 1)], {}, {"home": "b"}, ("a", 900)),
        ([A, B], {}, {"home": "gone", "head_tokens": 70}, ("a", 900)),
        # engines that are down, or were not asked yet
        ([down("a"), B], {"a": 900}, {}, ("b", 900)),
        ([down("a"), down("b")], {"b": 1}, {}, ("b", 899)),
        ([("a", 0, 0, None), B], {}, {}, ("a", 900)),
        # engines that failed this request
        ([A, B, C], {"a": 9}, {"excluded": {"a"}}, ("b", 900)),
        ([A, down("b")], {}, {"excluded": {"a"}}, ("b", 900)),
        ([A, B], {}, {"excluded": {"a", "b"}}, None),
        ([], {}, {}, None),
    ],
)
def test_where_a_request_goes(
    standings: list[Standing],
    held: dict[str, int],
    more: dict[str, Any],
    expected: tuple[str, int] | None,
) -> None:
    assert choose_engine(standings, held, 900, **more) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.integers(0, 99),
            st.integers(0, 9),
            st.sampled_from([None, True, False]),
        ),
        unique_by=lambda standing: standing[0],
    ),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 99)),
    st.sets(st.sampled_from("abcde")),
)
def test_nobody_is_cheaper(
    standings: list[Standing], held: dict[str, int], excluded: set[str]
) -> None:
    route = choose_engine(standings, held, 99, excluded=excluded)
    left = [one for one in standings if one[0] not in excluded]
    left = [one for one in left if one[3] is not False] or left
    costs = {name: load - held.get(name, 0) for name, load, _, _ in left}
    assert (route is None) == (not left)
    if route is not None:
        assert costs[route.engine] == min(costs.values())
        assert route.tokens == 99 - held.get(route.engine, 0)


# -- which engines hold a prompt's beginning -------------------------------------------------------

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


def check_tree(tree: EnginePrefixTree | None) -> list[set[Any]]:
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
                    held[int(number)].update(
                        whole[:n] for n in range(len(path) + 1, len(whole) + 1)
                    )
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
    operations,
    st.integers(1, 30),
    paths,
    st.dictionaries(st.integers(0, 5), st.integers(1, 9)),
)
@settings(max_examples=300, deadline=None)
def test_the_tree_holds_what_the_indexes_hold(
    before: list[Any], todo: list[Any], bound: int, start: Any, weights: dict[int, int]
) -> None:
    by_prefix = EnginesByPrefix()
    indexes = [ContextIndex(bound) for _ in range(NUM_ENGINES)]
    for name, number, *arguments in before:  # while the engine was alone
        getattr(indexes[number], name)(*arguments)
    for number, index in enumerate(indexes):
        index.tell(by_prefix.watcher(str(number))("n"))
    for name, number, *arguments in [("cut", 0, (), 0), *todo]:
        getattr(indexes[number], name)(*arguments)
        assert check_tree(by_prefix.tree("n")) == [check_index(index) for index in indexes]
    for head in (NO_HEAD, Head(start, 20 * len(start))):
        rest = {key: weight for key, weight in weights.items() if key not in head.keys}
        found = by_prefix.live_tokens("n", head, rest)
        expected = [live_at(index, head, rest) for index in indexes]
        assert [found.get(str(number), 0) for number in range(NUM_ENGINES)] == expected
        assert by_prefix.live_tokens("other", head, rest) == {}


def test_engines_that_restart_for_ever_leave_no_bits_behind() -> None:
    by_prefix = EnginesByPrefix()
    first, second = (ContextIndex() for _ in range(2))
    first.watch, second.watch = by_prefix.watcher("0")("n"), by_prefix.watcher("1")("n")
    second.insert(["system", "a"])
    for number in range(2_000):
        for step in range(4):
            first.insert(["system", number, step])
        first.empty()
        second.insert(["system", "a", number % 7])
    tree = by_prefix.tree("n")
    assert tree is not None
    assert len(tree._names) < 20
    assert by_prefix.live_tokens("n", Head(("system",), 9), {"a": 3}) == {"1": 12}
    second.empty()
    assert len(by_prefix) == 0


def test_what_a_look_up_finds_is_never_more_than_there_is() -> None:
    by_prefix = EnginesByPrefix()
    index = ContextIndex()
    index.watch = by_prefix.watcher("0")("n")
    for first in range(60):  # more than one look-up visits
        for second in range(60):
            index.insert([first, second])
    weights = {key: 100 - key for key in range(60)}
    found = by_prefix.live_tokens("n", NO_HEAD, weights)["0"]
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
    by_prefix = EnginesByPrefix()
    namespaces = Namespaces(1_000, 10, 2)
    namespaces.watcher = by_prefix.watcher("0")
    dropped = namespaces.get("one").planner.index
    dropped.insert([1, 2])
    for name in ("two", "three"):
        namespaces.get(name).planner.index.insert([1, 2])
    assert by_prefix.live_tokens("one", NO_HEAD, {1: 5}) == {}
    dropped.insert([1, 2])  # by a thread that still plans there
    assert by_prefix.live_tokens("one", NO_HEAD, {1: 5}) == {}
    assert by_prefix.live_tokens("two", NO_HEAD, {1: 5}) == {"0": 5}
    namespaces.reset()
    assert len(by_prefix) == 0
