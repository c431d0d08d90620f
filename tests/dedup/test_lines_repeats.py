"""The run finder: exact runs of other units, kept sources, and work no faster than the input."""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.dedup import lines as lines_module
from contextpilot.dedup.lines import MAX_CANDIDATES, Extent, Run, RunFinder

Zones = Sequence[Sequence[str]]


def extents(zones: Zones, trusts: str = "", units: Sequence[int] = ()) -> list[Extent]:
    """Every zone of a class named by one letter, which may name itself; "-" names nothing."""
    return [
        Extent(end, unit, trust, None if trust == "-" else ("-", trust))
        for end, unit, trust in zip(
            accumulate(map(len, zones)),
            units or range(len(zones)),
            trusts or "t" * len(zones),
            strict=True,
        )
    ]


def runs_of(zones: Zones, min_chars: int, trusts: str = "", units: Sequence[int] = ()) -> list[Run]:
    found: list[Run] = []
    finder = RunFinder(
        [key for zone in zones for key in zone], extents(zones, trusts, units), min_chars
    )
    for zone in range(len(zones)):
        runs = finder.find(zone)
        finder.settle(zone, [(run.start, run.end) for run in runs])
        found += runs
    return found


def chars(keys: Sequence[str]) -> int:
    return sum(map(len, keys)) + len(keys) - 1


def test_takes_the_longest_earlier_copy_not_the_first() -> None:
    first = ["alpha alpha", "beta beta", "x"]
    second = ["alpha alpha", "beta beta", "gamma gamma"]
    runs = runs_of([first, second, second], 20)
    assert runs == [Run(3, 5, 1, 0, 0), Run(6, 8, 2, 0, 0)]
    assert runs_of([["q", *second], first, second], 20)[-1] == Run(7, 10, 2, 1, 0)


def test_runs_stay_within_their_zones() -> None:
    zone = ["one line here", "another line"]
    assert runs_of([zone, zone, [*zone, *zone]], 10) == [
        Run(2, 4, 1, 0, 0),
        Run(4, 6, 2, 0, 0),
        Run(6, 8, 2, 0, 0),
    ]


def test_what_repeats_within_a_unit_stays() -> None:
    zone = ["one line here", "another line"]
    assert runs_of([["the same line"] * 10_000], 48) == []
    assert runs_of([zone * 3, zone], 10, units=[0, 0]) == []
    assert runs_of([zone, zone * 3], 10, units=[0, 1])


def test_only_classes_that_may_be_named_are() -> None:
    zone = ["one line here", "another line"]
    assert runs_of([zone, zone], 10, "ab") == []
    assert runs_of([zone, zone], 10, "-b") == [Run(2, 4, 1, 0, 0)]
    assert runs_of([zone, zone, zone, zone], 10, "abab") == [Run(4, 6, 2, 0, 0), Run(6, 8, 3, 2, 1)]


def test_other_classes_do_not_take_the_places_of_candidates() -> None:
    zone = ["one line here", "another line"]
    crowd = [zone] * (2 * MAX_CANDIDATES)
    assert runs_of([*crowd, zone, zone], 10, "-" * 0 + "a" * len(crowd) + "bb")[-1].zone == 17


def test_short_runs_are_left() -> None:
    assert runs_of([["}", "", "}"], ["}", "", "}"]], 5) == []
    assert runs_of([["}", "", "}"], ["}", "", "}"]], 4) == [Run(3, 6, 1, 0, 0)]


def test_runs_begin_with_a_line_that_is_not_blank() -> None:
    zone = ["", "  ", "one line here", "", "another line"]
    assert runs_of([zone, zone], 10) == [Run(7, 10, 1, 2, 0)]
    assert runs_of([[""] * 99, [""] * 99], 10) == []


def test_zones_that_name_nothing_are_sources_only() -> None:
    zone = ["one line here", "another line"]
    assert runs_of([zone, zone, zone], 10, "t-t") == [Run(4, 6, 2, 2, 1)]


def test_runs_that_stay_can_be_sources() -> None:
    zone = ["one line here", "another line"]
    finder = RunFinder(zone * 3, extents([zone] * 3), 20)
    found: list[Run] = []
    for at in range(3):
        found += finder.find(at)
        finder.settle(at)
    assert found == [Run(2, 4, 1, 0, 0), Run(4, 6, 2, 0, 0)]
    finder = RunFinder(zone * 3, extents([zone] * 3, "-tt"), 20)
    for at in range(3):
        finder.settle(at, [(0, 1)] if at == 0 else [])
    assert finder.find(2) == [Run(4, 6, 2, 2, 1)]


def test_dropped_zones_are_no_sources() -> None:
    zone, other = ["one line here", "another line"], ["a third line", "and a fourth"]
    finder = RunFinder(
        [*zone, *zone, *other, *other], extents([zone, zone, other, other], "abaa"), 20
    )
    finder.settle(0)
    finder.drop(1)
    finder.drop(2)
    assert finder.find(3) == []


CHUNKS = [
    ["line one", "line two", "", "line four"],
    ["line two", "", "line four", "}"],
    ["x" * 12],
    ["}", "", "ab"],
    ["other"],
]
ZONES = st.lists(
    st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=4).map(
        lambda chunks: list(chain.from_iterable(chunks))
    ),
    max_size=8,
)


@given(ZONES, st.integers(1, 40))
def test_every_run_equals_lines_that_stay(zones: list[list[str]], min_chars: int) -> None:
    keys = [key for zone in zones for key in zone]
    zone_of = [number for number, zone in enumerate(zones) for _ in zone]
    dropped: set[int] = set()
    for start, end, zone, source, source_zone in runs_of(zones, min_chars):
        span, lines = range(start, end), end - start
        assert {zone_of[at] for at in span} == {zone}
        assert {zone_of[at] for at in range(source, source + lines)} == {source_zone}
        assert source_zone < zone
        assert chars(keys[source : source + lines]) >= min_chars
        assert [keys[at] for at in span] == keys[source : source + lines]
        assert not dropped & set(span)
        dropped |= set(span)
        assert not dropped & set(range(source, source + lines))


@given(ZONES, st.integers(1, 30))
def test_what_follows_changes_nothing_before(zones: list[list[str]], min_chars: int) -> None:
    whole = runs_of(zones, min_chars)
    for size in range(len(zones)):
        begin = runs_of(zones[:size], min_chars)
        assert begin == [run for run in whole if run.zone < size]


def longest_first(zones: list[list[str]], min_chars: int) -> set[int]:
    """The same greedy pass by brute force over all kept lines; the lines that it drops."""
    keys = [key for zone in zones for key in zone]
    zone_of = [number for number, zone in enumerate(zones) for _ in zone]
    dropped: set[int] = set()

    def reach(source: int, start: int) -> int:
        lines = 0
        while (
            start + lines < len(keys)
            and zone_of[source] < zone_of[start]
            and source + lines not in dropped
            and zone_of[source + lines] == zone_of[source]
            and zone_of[start + lines] == zone_of[start]
            and keys[source + lines] == keys[start + lines]
        ):
            lines += 1
        return lines

    at = 0
    while at < len(keys):
        best = max((reach(source, at) for source in range(at)), default=0)
        if best and chars(keys[at : at + best]) >= min_chars:
            dropped |= set(range(at, at + best))
        at += best if at in dropped else 1
    return dropped


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12), max_size=4),
    st.integers(1, 8),
)
def test_drops_what_brute_force_drops(zones: list[list[str]], min_chars: int) -> None:
    dropped = {at for run in runs_of(zones, min_chars) for at in range(run.start, run.end)}
    assert dropped == longest_first(zones, min_chars)


class CountedArray(array):  # subscripts only from 3.12 on
    """Counts the items that are read, one by one or by slice."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        self.reads += len(item) if isinstance(index, slice) else 1
        return item


def operations(monkeypatch: pytest.MonkeyPatch, zones: Sequence[Sequence[str]]) -> int:
    """Lines of Python executed in lines.py, plus line ids read."""
    counted: list[CountedArray] = []

    def counting_array(typecode: Any, ids: Sequence[int]) -> CountedArray:
        counted.append(CountedArray(typecode, ids))
        return counted[-1]

    executed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal executed
        if frame.f_code.co_filename != lines_module.__file__:
            return None
        executed += event == "line"
        return trace

    monkeypatch.setattr(lines_module, "array", counting_array)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        runs = runs_of(zones, 48)
    finally:
        sys.settrace(before)
    assert counted[0].reads or not runs
    return executed + counted[0].reads


def fibonacci_word(size: int) -> list[str]:
    word, longer = "a", "ab"
    while len(longer) < size:
        word, longer = longer, longer + word
    return [letter * 9 for letter in longer[:size]]


def random_lines(size: int) -> list[str]:
    rng = random.Random(7)
    return [f"kind {rng.randrange(2)}" for _ in range(size)]


HOSTILE: dict[str, Callable[[int], list[list[str]]]] = {
    "all equal": lambda size: [["the same line"] * (size // 2)] * 2,
    "blank": lambda size: [[""] * (size // 4)] * 4,
    "rules, then a word": lambda size: [["-"] * (size // 2 - 1) + ["w"]] * 2,
    "period of seven": lambda size: [["a", "bb", "", "}", "e e e", ")", "last"] * (size // 14)] * 2,
    "long period": lambda size: [[f"line {at}" for at in range(size // 10)] * 5] * 2,
    "fibonacci": lambda size: [fibonacci_word(size // 2), fibonacci_word(size // 2)[1:]],
    "random of two": lambda size: [random_lines(size // 2), random_lines(size // 2)[1:]],
    "one common start": lambda size: [
        ["the head of it all, which every zone has in common", *["body"] * 20, f"{at}"]
        for at in range(size // 22)
    ],
    "growing copies": lambda size: [
        [f"line {line} of the text" for line in range(at)] for at in range(1, int(size**0.5))
    ],
    "equal, one line a zone": lambda size: [["the same line " * 4]] * size,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [2_000, 32_000])
def test_work_per_line_is_bounded(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    zones = HOSTILE[name](size)
    assert operations(monkeypatch, zones) <= 72 * sum(map(len, zones))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_equal_hashes_come_together_also_where_others_begin_alike(
    parts: list[tuple[int, int]],
) -> None:
    """Of some the bits differ only where the sort has the places stand."""
    hashes = np.array([high << 60 | low for high, low in parts], np.uint64)
    order = lines_module._grouped(hashes).tolist()
    groups = [
        [at for at in order if hashes[at] == one] for one in dict.fromkeys(hashes[order].tolist())
    ]
    assert order == list(chain.from_iterable(groups))
    assert all(group == sorted(group) for group in groups)
