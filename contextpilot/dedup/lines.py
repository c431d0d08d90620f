"""Maximal runs of lines that stand earlier too, found in linear time.

The lines of a prompt form one stream, cut into *zones* (a text, a string inside JSON, a numbered
listing); runs never cross a zone's end, and their earlier copy stands in a zone of another *unit*,
of a class that it may name. A run can only be replaced if it holds `min_chars` characters, so the
shortest window of lines from a position that holds that many is the seed: a replaceable run and
its earlier copy start with the same window. Windows are compared by a polynomial hash computed in
NumPy; the Python loop visits only positions whose window occurs in two units, and every match is
verified line by line. A match is taken only from lines that are still kept, so what a reference
points at is never replaced itself.

Decisions about a line depend on earlier lines and those of its own unit alone: appending units to
the stream changes nothing before them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_CANDIDATES = 8
"""Earlier copies of a class tried per position; the bound that keeps the search linear."""
_MAX_PLACES = 8 * MAX_CANDIDATES
"""Of those that are equal, so many are looked at to find such as are kept."""

_DROPPED = -1
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)

_Unsigned = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int64]


class Extent(NamedTuple):
    """Where a zone ends in the stream, and what may be done with it.

    Units count up along the stream. `may_name` are the classes of zones that may be named here, of
    which its own may be one; None where nothing is replaced.
    """

    end: int
    unit: int
    trust: str
    may_name: tuple[str, ...] | None


class Run(NamedTuple):
    """Lines `start .. end` of the stream, in zone `zone`, equal those from `source` on."""

    start: int
    end: int
    zone: int
    source: int
    source_zone: int


class RunFinder:
    """Finds runs zone by zone; use once.

    Args:
        keys: the lines as compared (no line ends).
        zones: their extents, in order.
        min_chars: what a run holds at least.
    """

    def __init__(self, keys: Sequence[str], zones: Sequence[Extent], min_chars: int) -> None:
        self._zones = zones
        self._begins = [0, *(zone.end for zone in zones)]
        numbers, distinct = _intern(keys)
        self._kept = array("q", numbers)  # stretches of it compare faster than those of a list
        self._wanted, self._offered = _NO_SEEDS, _NO_SEEDS
        if keys:
            ids = np.array(self._kept)
            is_blank = np.array([not key.strip() for key in distinct])[ids]
            lengths = np.fromiter(map(len, distinct), np.int64, len(distinct))[ids]
            windows = _Windows(ids, is_blank, _window_ends(lengths, min_chars))
            self._wanted, self._offered = _shared(windows, zones)
        self._next_offered = 0
        self._seen: defaultdict[str, _Places] = defaultdict(_Places)

    def find(self, zone: int) -> list[Run]:
        """The maximal runs of a zone, first to last, none of which overlap. O(its lines)."""
        runs: list[Run] = []
        extent = self._zones[zone]
        positions, hashes, window_ends = self._wanted
        index = bisect_left(positions, self._begins[zone])
        is_empty = index == len(positions) or positions[index] >= extent.end
        if is_empty or extent.may_name is None:
            return runs
        seen = [self._seen[trust] for trust in extent.may_name if trust in self._seen]
        while index < len(positions) and (position := positions[index]) < extent.end:
            copies = [copy for places in seen for copy in places.of(hashes[index])]
            run = self._longest(position, copies, window_ends[index] - position, zone)
            if run is None:
                index += 1
            else:
                runs.append(run)
                index = bisect_left(positions, run.end, index)
        return runs

    def drop(self, zone: int) -> None:
        """Settle a zone by dropping all its lines."""
        self.settle(zone, [(self._begins[zone], self._zones[zone].end)])

    def settle(self, zone: int, dropped: Sequence[tuple[int, int]] = ()) -> None:
        """Drop spans of lines of a zone, first to last, and let those after it name the others.

        Every zone must be settled, in order.
        """
        kept, end = self._kept, self._zones[zone].end
        positions, hashes, _ = self._offered
        add = self._seen[self._zones[zone].trust].add
        for first, last in [*dropped, (end, end)]:
            kept[first:last] = array("q", [_DROPPED]) * (last - first)
            upto = bisect_left(positions, first, self._next_offered)
            for index in range(self._next_offered, upto):
                add(hashes[index], positions[index])
            self._next_offered = bisect_left(positions, last, upto)

    def _longest(
        self, position: int, copies: Sequence[int], window_lines: int, zone: int
    ) -> Run | None:
        """The longest run from here, earliest copy first."""
        kept, extent = self._kept, self._zones[zone]
        best: Run | None = None
        wanted = window_lines
        for candidate in copies:
            if kept[candidate + wanted - 1] != kept[position + wanted - 1]:
                continue
            source_zone = bisect_right(self._begins, candidate) - 1
            source = self._zones[source_zone]
            if source.unit == extent.unit:
                continue
            limit = min(source.end, candidate + extent.end - position)
            if candidate + wanted > limit:
                continue
            if kept[candidate : candidate + wanted] != kept[position : position + wanted]:
                continue
            lines = wanted + _num_equal(kept, candidate + wanted, position + wanted, limit)
            best = Run(position, position + lines, zone, candidate, source_zone)
            wanted = lines + 1
            if position + wanted > extent.end:
                break
        return best


def _num_equal(ids: Sequence[int], first: int, second: int, first_end: int) -> int:
    """How many ids from `first` on, before `first_end`, equal those from `second` on.

    Stretches are compared as a whole, ever longer ones.
    """
    equal, length = 0, 16
    while first + equal < first_end:
        begin, end = first + equal, min(first + equal + length, first_end)
        if ids[begin:end] != ids[second + equal : second + equal + end - begin]:
            return equal + _first_difference(ids, begin, second + equal, end - begin)
        equal, length = equal + end - begin, 2 * length
    return equal


def _first_difference(ids: Sequence[int], first: int, second: int, length: int) -> int:
    """How many ids are equal before the first two that differ, which are among `length`."""
    equal = 0
    while length > 1:
        half = length // 2
        begin = second + equal
        if ids[first + equal : first + equal + half] == ids[begin : begin + half]:
            equal, length = equal + half, length - half
        else:
            length = half
    return equal


class _Places:
    """Where windows stand that may be named: most of them once, so that first places lie apart."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._later: defaultdict[int, list[int]] = defaultdict(list)

    def add(self, window: int, position: int) -> None:
        """Note a place; the earliest ones suffice."""
        if self._first.setdefault(window, position) != position:
            later = self._later[window]
            if len(later) < MAX_CANDIDATES - 1:
                later.append(position)

    def of(self, window: int) -> Sequence[int]:
        """Return the places of a window, earliest first."""
        first = self._first.get(window)
        return () if first is None else (first, *self._later.get(window, ()))


class _Seeds(NamedTuple):
    """Positions whose window occurs in another unit (a few false ones among them)."""

    positions: Sequence[int]
    hashes: Sequence[int]
    window_ends: Sequence[int]


_NO_SEEDS = _Seeds((), (), ())


class _Windows(NamedTuple):
    """By line: its id, whether it is blank, and the end of the window that begins with it."""

    ids: _Integers
    is_blank: npt.NDArray[np.bool_]
    ends: _Integers


def _intern(keys: Sequence[str]) -> tuple[list[int], Collection[str]]:
    """A number for each line, equal for equal lines, and the distinct lines in that order."""
    number: defaultdict[str, int] = defaultdict(count().__next__)
    return list(map(number.__getitem__, keys)), number.keys()


def _shared(windows: _Windows, zones: Sequence[Extent]) -> tuple[_Seeds, _Seeds]:
    """The windows that occur in an earlier unit, and those that occur in a later one.

    Those that begin with a blank line count for nothing: the run does as well without it.
    """
    ids, is_blank, ends = windows
    zone_ends = np.array([zone.end for zone in zones], np.int64)
    lines_per_zone = np.diff(zone_ends, prepend=0)
    positions = np.flatnonzero((ends <= np.repeat(zone_ends, lines_per_zone)) & ~is_blank)
    hashes = _window_hashes(ids, positions, ends[positions])
    order = _grouped(hashes)
    units = np.repeat(np.array([zone.unit for zone in zones], np.int64), lines_per_zone)
    units = units[positions[order]]
    group = _runs(hashes[order])
    wanted = np.flatnonzero(units > units[group.first])
    later = np.flatnonzero(units < units[group.last])
    later = later[_ranks(group.first[later], units[later]) < MAX_CANDIDATES]
    classes = _class_numbers(zones, lines_per_zone)[positions[order[later]]]
    by_class = np.argsort(classes, kind="stable")
    later = later[by_class]
    later = later[_ranks(group.first[later], classes[by_class]) < _MAX_PLACES]

    def seeds(places: _Integers) -> _Seeds:
        is_chosen = np.zeros(len(order), np.bool_)
        is_chosen[order[places]] = True
        chosen = np.flatnonzero(is_chosen)
        # Item by item, a memoryview is read faster than an array, and built faster than a list.
        return _Seeds(positions[chosen].data, hashes[chosen].data, ends[positions[chosen]].data)

    return seeds(wanted), seeds(later)


def _class_numbers(zones: Sequence[Extent], lines_per_zone: _Integers) -> npt.NDArray[Any]:
    """A number for the class of each line, as small as they are few: so they are sorted fast."""
    numbers, distinct = _intern([zone.trust for zone in zones])
    return np.repeat(np.array(numbers, np.min_scalar_type(len(distinct))), lines_per_zone)


class _Runs(NamedTuple):
    """By place: the first and the last of the equal values in a row among which it stands."""

    first: _Integers
    last: _Integers


def _runs(values: npt.NDArray[Any]) -> _Runs:
    """Where neighbours are equal."""
    begins = _begins(values)
    starts = np.flatnonzero(begins)
    number = np.cumsum(begins) - 1
    return _Runs(starts[number], np.append(starts[1:], len(begins))[number] - 1)


def _begins(*values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each differs in one of `values` from the one before."""
    begins = np.zeros(len(values[0]), np.bool_)
    begins[:1] = True
    for column in values:
        begins[1:] |= column[1:] != column[:-1]
    return begins


def _ranks(*values: npt.NDArray[Any]) -> _Integers:
    """How many neighbours before each are equal to it in all of `values`."""
    places = np.arange(len(values[0]))
    return places - np.maximum.accumulate(np.where(_begins(*values), places, 0))


def _grouped(hashes: _Unsigned) -> _Integers:
    """An order that brings equal hashes together, those that are equal as they stand.

    Sorting hashes with their places in the lowest bits takes half the time of a stable sort.
    """
    bits = np.uint64(max(1, len(hashes).bit_length()))
    packed = (hashes >> bits << bits) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64((1 << int(bits)) - 1)).astype(np.int64)
    ordered = hashes[order]
    is_cut = (packed[1:] >> bits == packed[:-1] >> bits) & (ordered[1:] != ordered[:-1])
    return np.argsort(hashes, kind="stable") if is_cut.any() else order


def _window_ends(lengths: _Integers, min_chars: int) -> _Integers:
    """The end of the shortest window of `min_chars` from each line; past all if none."""
    begins = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths + 1, out=begins[1:])
    needed = min(min_chars, int(begins[-1])) + 1
    return np.searchsorted(begins, begins[:-1] + needed).astype(np.int64)


def _window_hashes(ids: _Integers, starts: _Integers, ends: _Integers) -> _Unsigned:
    """sum of mix(id[k]) * BASE**(k - start) over each window, modulo 2**64."""
    powers = _powers(_BASE, len(ids))
    prefix = np.zeros(len(ids) + 1, np.uint64)
    np.cumsum(_mix(ids.astype(np.uint64)) * powers, out=prefix[1:])
    sums: _Unsigned = prefix[ends] - prefix[starts]
    return sums * _powers(_BASE_INVERSE, len(ids))[starts]


def _powers(base: int, length: int) -> _Unsigned:
    factors = np.full(length, base, np.uint64)
    factors[0] = 1
    powers: _Unsigned = np.cumprod(factors, dtype=np.uint64)
    return powers


def _mix(values: _Unsigned) -> _Unsigned:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): small integers to spread-out ones."""
    values = values + np.uint64(_BASE)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: _Unsigned = values ^ (values >> np.uint64(31))
    return mixed
