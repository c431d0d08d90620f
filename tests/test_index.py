"""The context index against one that spells out every path."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PathIndex, check_index

from contextpilot.block import BlockKey
from contextpilot.index import ContextIndex
from contextpilot.radix import Node

paths = st.lists(st.integers(0, 5), max_size=6, unique=True).map(tuple)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), paths),
        st.tuples(st.just("insert"), paths),
        st.tuples(st.just("cut"), paths, st.integers(-1, 6)),
        st.tuples(st.just("clear")),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(operations, paths)
@settings(max_examples=200)
def test_paths_equal_the_oracle_after_every_operation(todo: list[Any], probe: Any) -> None:
    index, oracle = ContextIndex(), PathIndex()
    for name, *arguments in todo:
        if name == "insert":
            assert index.insert(*arguments) == oracle.insert(*arguments)
        elif name == "cut":
            keys, keep = arguments
            assert index.cut(keys, keep) == oracle.cut(keys, max(0, keep))
        else:
            index.clear()
            oracle.paths.clear()
        assert check_index(index) == oracle.paths
    assert index.match(probe) == oracle.match(probe)
    assert set(index.children(probe)) == oracle.children(probe)


class Mirror:
    """Spells out what it is told of a tree."""

    def __init__(self) -> None:
        self.paths: set[Any] = set()

    def grown(self, keys: Any) -> None:
        self.paths.update(tuple(keys[:n]) for n in range(1, len(keys) + 1))

    def cut(self, keys: Any) -> None:
        self.paths = {path for path in self.paths if path[: len(keys)] != tuple(keys)}

    def emptied(self) -> None:
        self.paths.clear()


@pytest.mark.slow
@given(operations, st.integers(1, 12), st.data())
@settings(max_examples=200)
def test_a_watch_is_told_of_every_change(todo: list[Any], bound: int, data: Any) -> None:
    index, mirror = ContextIndex(bound), Mirror()
    index.watch = mirror
    for name, *arguments in todo:
        if name == "clear":
            (index.empty if data.draw(st.booleans()) else index.clear)()
        else:
            getattr(index, name)(*arguments)
        assert check_index(index) == mirror.paths
        index.shed(data.draw(st.integers(0, 3)))
        assert check_index(index) == mirror.paths


@given(st.lists(paths, max_size=30), st.integers(0, 40))
def test_shedding_drops_leaves_in_order_of_use(inserted: list[Any], wanted: int) -> None:
    ticks = count(7, 3)
    index = ContextIndex(tick=ticks.__next__)
    for path in inserted:
        index.insert(path)
    held = len(check_index(index))
    dropped = 0
    while dropped < wanted and (oldest := index.oldest()) is not None:
        dropped += index.shed(1)
        assert (index.oldest() or oldest) >= oldest
    assert dropped >= min(wanted, held)
    assert len(check_index(index)) == held - dropped
    assert index.stats().num_evicted_blocks == dropped


def test_a_release_tells_how_many_blocks_go_with_it() -> None:
    index = ContextIndex()
    index.insert(("a", "b", "c", "d"), "one")
    index.insert(("a", "b", "x"), "two")
    index.set_cached("one", 4)
    index.set_cached("two", 3)
    assert index.release("one") == 2
    assert index.release("one") == 0
    assert index.release("two", keep=1) == 2
    assert index.release("nobody's") == 0
    assert check_index(index) == {("a",)}


def test_what_a_cache_is_like_is_told_again_and_again_without_loss() -> None:
    index = ContextIndex()
    index.insert(("a", "b", "c"), "one")
    index.describe(1)
    index.describe(1)
    assert index.match(("a", "b", "c")) == 3
    index.describe(1, is_sparse=True)
    assert index.match(("a", "b", "c")) == 0  # nobody said where it can be reused
    index.add_cached("one", 3, points=((2, 2),))
    index.describe(1, is_sparse=True)
    assert index.match(("a", "b", "c")) == 2


def num_nodes() -> int:
    return sum(type(thing) is Node for thing in gc.get_objects())


def test_a_large_tree_is_taken_apart_to_the_end_on_a_thread() -> None:
    index = ContextIndex()
    for number in range(2_500):
        index.insert((number, -1))
    root = index.root
    index.empty()
    for thread in threading.enumerate():
        if thread.name == "contextpilot-release":
            thread.join(20)
    assert not root.children
    assert index.root is not root


class Noting:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def grown(self, keys: Sequence[BlockKey]) -> None:
        self.told.append(("grown", *keys))

    def cut(self, keys: Sequence[BlockKey]) -> None:
        self.told.append(("cut", *keys))

    def emptied(self) -> None:
        self.told.append("emptied")


def test_a_watch_is_told_what_there_is_and_then_every_change() -> None:
    index, watch = ContextIndex(), Noting()
    for path in ("abc", "abd", "e"):
        index.insert(path)
    index.tell(watch)
    assert sorted(watch.told) == [("grown", *path) for path in ("abc", "abd", "e")]
    del watch.told[:]
    index.insert("fg")
    index.insert("fg")
    index.cut("abc", 2)
    index.empty()
    assert watch.told == [("grown", "f", "g"), ("cut", "a", "b", "c"), "emptied"]


def test_what_comes_again_is_no_longer_noted_as_dropped() -> None:
    index = ContextIndex()
    index.insert("abc")
    index.cut("abc", 1)
    assert [index.was_dropped(key) for key in "abc"] == [False, True, True]
    index.insert("abd")
    assert [index.was_dropped(key) for key in "abc"] == [False, False, True]
    assert index.num_dropped == 1


def test_ended_credit_leaves_what_was_told_as_old_as_it_was() -> None:
    index = ContextIndex()
    index.insert("abc", "r")
    index.add_cached("r", 1)
    index.cut("abc", 1)
    index.insert("x")
    index.end_credit("r")
    index.shed(1)
    assert [index.match("a"), index.match("x")] == [0, 1]


@pytest.mark.slow
def test_an_emptied_tree_keeps_names_and_is_freed() -> None:
    index = ContextIndex()
    gc.collect()
    before = num_nodes()
    gc.disable()
    try:
        for number in range(5_000):
            index.insert((number % 50, number, -1), str(number))
        index.empty()
        assert (index.stats().num_blocks, index.oldest()) == (0, None)
        assert len(index.requests()) == 5_000
        assert index.was_dropped(-1)
        assert index.set_cached("4999", 3)
        assert check_index(index) == {(49,), (49, 4999), (49, 4999, -1)}
        deadline = time.monotonic() + 20
        while num_nodes() > before + 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert num_nodes() <= before + 10
    finally:
        gc.enable()


@pytest.mark.slow
@given(st.lists(paths, max_size=30), st.dictionaries(st.integers(0, 6), st.integers(1, 9)), paths)
@settings(max_examples=300)
def test_longest_prefix_is_the_heaviest_path(
    inserted: list[Any], weights: dict[int, int], start: tuple[int, ...]
) -> None:
    index, oracle = ContextIndex(), PathIndex()
    for path in inserted:
        index.insert(path)
        oracle.insert(path)
    for begin in ((), start):
        rest = {key: weight for key, weight in weights.items() if key not in begin}
        found = index.longest_prefix(rest, begin)
        assert sum(rest[key] for key in found) == oracle.heaviest(rest, begin)
        assert not found or (*begin, *found) in oracle.paths
        assert len(set(found)) == len(found)


def test_longest_prefix_prefers_the_most_recently_used_of_equals() -> None:
    index = ContextIndex()
    index.insert("ab")
    index.insert("ba")
    weights = {"a": 1, "b": 1}
    assert index.longest_prefix(weights) == ["b", "a"]
    index.insert("ab")
    assert index.longest_prefix(weights) == ["a", "b"]


@pytest.mark.parametrize("visits", [1, 2, 10])
def test_longest_prefix_stays_a_live_path_when_the_visits_run_out(visits: int) -> None:
    draw = random.Random(visits)
    index, oracle = ContextIndex(max_visits=visits), PathIndex()
    for _ in range(300):
        path = draw.sample(range(8), 6)
        index.insert(path)
        oracle.insert(path)
    for _ in range(50):
        weights = {key: draw.randint(1, 9) for key in draw.sample(range(8), 6)}
        found = index.longest_prefix(weights)
        assert tuple(found) in oracle.paths
        assert {*found} <= {*weights}


@pytest.mark.parametrize(("visits", "best"), [(2, "a"), (3, "ac"), (4, "bd")])
def test_the_visits_of_a_search_are_counted_over_all_levels(visits: int, best: str) -> None:
    """Below the root a and b are looked at, then c below a, then d below b."""
    index = ContextIndex(max_visits=visits)
    for path in ("ax", "ac", "by", "bd"):
        index.insert(path)
    assert index.longest_prefix({"a": 2, "b": 1, "c": 1, "d": 9}) == [*best]


def test_a_path_may_hold_a_block_twice() -> None:
    index = ContextIndex()
    index.insert("abac")
    assert index.match("abac") == 4
    assert index.longest_prefix({"a": 1, "b": 1, "c": 1}) == ["a", "b"]
    check_index(index)


requests = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 6), paths, st.integers(1, 5)),
        st.tuples(st.just("truncate"), st.integers(0, 6), st.integers(-2, 40)),
        st.tuples(st.just("forget"), st.integers(0, 6)),
    ),
    max_size=40,
)


@given(st.lists(st.tuples(paths, st.integers(0, 40), st.none() | st.integers(1, 60)), max_size=20))
@settings(max_examples=150)
def test_the_tree_holds_exactly_what_the_engine_says(events: list[Any]) -> None:
    index, oracle = ContextIndex(), PathIndex()
    for number, (keys, tokens, prompt_tokens) in enumerate(events):
        request, total = f"r{number}", 5 * len(keys) + 3
        ends = [5 * n for n in range(1, len(keys) + 1)]
        index.insert(keys, request, ends, total)
        oracle.insert(keys)
        for counted in (prompt_tokens, None):  # the engine's count of the prompt is remembered
            assert index.set_cached(request, tokens, counted)
        scale = (prompt_tokens or total) / total
        keep = sum(round(end * scale) <= tokens for end in ends) if tokens else 0
        oracle.insert(keys[:keep])
        oracle.cut(keys, keep)
        assert check_index(index) == oracle.paths
    assert not index.set_cached("never seen", 5)


class EnginesByPrefix(PathIndex):
    """The slow truth of names: how many blocks of its path each one holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, tuple[Any, int]] = {}

    def name(self, request: str, keys: Any) -> None:
        self.insert(keys)
        self.held[request] = keys, len(keys)

    def truncate(self, request: str, keep: int) -> int:
        keys = self.held.get(request, ((), 0))[0]
        for name, (others, extent) in self.held.items():
            if extent > keep and others[: keep + 1] == keys[: keep + 1]:
                self.held[name] = others, keep
        return self.cut(keys, keep)

    def forget(self, request: str) -> int:
        keys, extent = self.held.pop(request, ((), 0))
        dropped = 0
        while extent and not self.is_needed(keys[:extent]):
            self.paths.remove(keys[:extent])
            extent, dropped = extent - 1, dropped + 1
        return dropped

    def is_needed(self, path: Any) -> bool:
        """Whether somebody holds a path, or something follows it."""
        held = [keys[:extent] for keys, extent in self.held.values()]
        longer = [p for p in self.paths if len(p) > len(path)]
        return any(p[: len(path)] == path for p in [*held, *longer])


@pytest.mark.slow
@given(requests)
@settings(max_examples=300)
def test_requests_are_truncated_by_tokens_and_hold_what_they_share(todo: list[Any]) -> None:
    index, oracle = ContextIndex(), EnginesByPrefix()
    known: dict[str, tuple[Any, list[int]]] = {}
    for name, number, *arguments in todo:
        request = f"r{number}"
        if name == "insert":
            keys, size = arguments
            ends = [size * n for n in range(1, len(keys) + 1)]
            index.insert(keys, request, ends)
            oracle.name(request, keys)
            known[request] = keys, ends
        elif name == "forget":
            assert index.forget(request) == oracle.forget(request)
            known.pop(request, None)
        else:
            keys, ends = known.get(request, ((), []))
            keep = sum(end <= arguments[0] for end in ends)
            assert index.truncate(request, arguments[0]) == oracle.truncate(request, keep)
        assert check_index(index) == oracle.paths
        assert set(index.requests()) == set(known)
        for request, (keys, ends) in known.items():
            assert request in index
            matched = oracle.match(keys)
            assert index.live_tokens(request) == (ends[matched - 1] if matched else 0)
    assert index.live_tokens("never seen") is None


@pytest.mark.slow
@given(st.lists(paths, max_size=60), st.integers(1, 12))
@settings(max_examples=200)
def test_the_bound_holds_and_the_newest_path_stays(inserted: list[Any], bound: int) -> None:
    index = ContextIndex(max_blocks=bound)
    for number, path in enumerate(inserted):
        before = check_index(index)
        index.insert(path, f"r{number}")
        after = check_index(index)
        added = {path[:n] for n in range(1, len(path) + 1)}
        assert index.stats().num_blocks <= bound
        assert after <= before | added
        assert index.match(path) == min(len(path), bound)
        assert len(before | added) > bound or after == before | added, "dropped without need"
        assert index.stats().num_requests <= bound


def test_the_least_recently_used_leaf_goes_first() -> None:
    index = ContextIndex(max_blocks=6)
    for path in ("ab", "cd", "ef"):
        index.insert(path)
    index.insert("ab")
    index.insert("gh")
    assert [index.match(path) for path in ("ab", "cd", "ef", "gh")] == [2, 0, 2, 2]
    assert index.was_dropped("c")
    assert not index.was_dropped("a")
    assert index.stats().num_evicted_blocks == 2


def test_a_path_longer_than_the_bound_keeps_its_head() -> None:
    index = ContextIndex(max_blocks=3)
    index.insert("abcdef", "r")
    assert index.match("abcdef") == 3
    check_index(index)


HEAD = ("system", "tools")


def test_names_beyond_the_bound_take_what_nobody_else_holds() -> None:
    index = ContextIndex(max_blocks=16)
    for number in range(9):  # four blocks each: three keys and the name
        index.insert((*HEAD, number), f"r{number}")
        index.add_cached(f"r{number}", 3)
        check_index(index)
    assert [index.match((*HEAD, number)) for number in range(9)] == [2] * 5 + [3] * 4
    assert index.requests() == ["r5", "r6", "r7", "r8"]


def test_names_beyond_the_bound_take_nothing_where_no_engine_tells() -> None:
    index = ContextIndex(max_blocks=16)
    for number in range(9):
        index.insert((*HEAD, number), f"r{number}")
        check_index(index)
    assert [index.match((*HEAD, number)) for number in range(9)] == [3] * 9


def test_paths_beyond_the_bound_leave_the_head_to_those_who_share_it() -> None:
    index = ContextIndex(max_blocks=8)
    for number in range(20):
        index.insert((*HEAD, number, -1), f"r{number}")
        index.add_cached(f"r{number}", 4)
        check_index(index)
    assert index.match((*HEAD, 19, -1)) == 4
    for number in range(20):
        index.forget(f"r{number}")
        check_index(index)
    assert index.stats()[:3] == (0, 0, 0)


def test_credit_expires_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextpilot.index._EXPIRED_AT_ONCE", 3)
    index = ContextIndex()
    for number in range(8):
        index.insert((*HEAD, number), f"r{number}")
    index.expire(0.0, 8.0)
    index.insert((*HEAD, "told"), "told")
    index.add_cached("told", 3)
    for now, left in ((7.9, 8), (8.0, 5), (8.1, 2), (8.2, 0), (8.3, 0)):
        index.expire(now, 8.0)
        assert sum(index.match((*HEAD, number)) == 3 for number in range(8)) == left
        check_index(index)
    assert index.match((*HEAD, "told")) == 3


def test_the_queue_of_the_young_is_bounded() -> None:
    index = ContextIndex()
    index.insert("ab", "first")
    for number in range(10_000):
        index.insert("ab", f"r{number}")
        index.forget(f"r{number}")
    assert len(index._young) < 200


told = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 6), paths),
        st.tuples(st.sampled_from(["add", "limit", "set"]), st.integers(0, 6), st.integers(0, 6)),
        st.tuples(st.sampled_from(["release", "forget"]), st.integers(0, 6)),
        st.tuples(st.sampled_from(["empty", "forget_credit"])),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(told)
@settings(max_examples=400)
def test_what_is_believed_is_what_the_names_hold(todo: list[Any]) -> None:
    """Where engines tell, the tree consists of what names hold, and of nothing else."""
    index = ContextIndex()
    index.insert("z", "z")
    index.add_cached("z", 1)
    for name, *arguments in todo:
        if not arguments:
            getattr(index, name)()
        elif name == "insert":
            index.insert(arguments[1], f"r{arguments[0]}")
        elif name in ("release", "forget"):
            getattr(index, name)(f"r{arguments[0]}")
        else:
            getattr(index, f"{name}_cached")(f"r{arguments[0]}", arguments[1])
        found = check_index(index)
        ends = {request: path_to(index._anchor(request)) for request in index.requests()}
        assert found == {path[:n] for path in ends.values() for n in range(1, len(path) + 1)}
        if name in ("limit", "set", "add") and f"r{arguments[0]}" in ends:
            keys = index._requests[f"r{arguments[0]}"].keys
            end = ends[f"r{arguments[0]}"]
            assert keys[: len(end)] == end
            kept = min(arguments[1], len(keys))
            assert len(end) == kept or (name == "add" and len(end) > kept)
            assert name != "set" or index.match(keys) == kept


def path_to(node: Node | None) -> tuple[Any, ...]:
    return (*path_to(node.parent), *node.keys) if node is not None else ()


def test_wrong_ends_leave_the_index_as_it_was() -> None:
    index = ContextIndex()
    for ends in ([1], [], [1, 2, 3]):
        with pytest.raises(ValueError, match="ends"):
            index.insert("ab", "r", ends)
        assert check_index(index) == set()
        assert index.requests() == []


def test_how_long_credit_lasts_is_marked_a_few_times_an_age() -> None:
    index, started = ContextIndex(), 100_000.0
    index.insert("ab", "first")
    for step in range(300):
        index.expire(started + step / 100, 1.0)
        index.insert("c", f"later {step}")
        index.add_cached(f"later {step}", 1)
        assert len(index._marks) <= 9
        assert step > 90 or index.match("ab") == 2
    assert index.match("ab") == 0


@pytest.mark.parametrize("tell", ["add_cached", "limit_cached", "set_cached"])
def test_who_tells_of_a_request_hears_whether_it_is_known(tell: str) -> None:
    index = ContextIndex()
    index.insert("ab", "known")
    told = [getattr(index, tell)(name, 1) for name in ("known", "unknown")]
    assert told == [True, False]


@pytest.mark.parametrize("argument", ["max_blocks", "max_visits"])
def test_bounds_below_one_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        ContextIndex(**{argument: 0})


@pytest.mark.slow
def test_a_million_inserts_stay_under_every_bound() -> None:
    draw = random.Random(7)
    index = ContextIndex(max_blocks=5_000)
    for number in range(1_000_000):
        a, b, c = draw.getrandbits(9), draw.getrandbits(9) | 512, draw.getrandbits(9) | 1024
        index.insert((a, b, c), str(number))
        assert index.stats().num_blocks <= 5_000
    check_index(index)
    assert index._num_request_blocks <= 5_000
    assert len(index._leaves.entries) <= 3 * 5_000
    assert len(index._dropped) <= 65_536


def test_requests_that_come_and_go_leave_nothing_behind() -> None:
    index = ContextIndex(max_blocks=1_000_000)
    for number in range(20_000):
        index.insert((number, number + 1), str(number))
        index.forget(str(number))
    assert index.stats()[:3] == (0, 0, 0)
    assert len(index._leaves.entries) < 1_000
    check_index(index)
