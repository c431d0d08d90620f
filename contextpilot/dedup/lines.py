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

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import count
from typing import NamedTuple

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
        self._kept, distinct = _intern(keys)
        self._wanted, self._offered = _NO_SEEDS, _NO_SEEDS
        if keys:
            ids = np.array(self._kept, np.int64)
            is_blank = np.array([not key.strip() for key in distinct])[ids]
            windows = _Windows(ids, is_blank, _window_ends(keys, min_chars))
            self._wanted, self._offered = _shared(windows, zones)
        self._next_offered = 0
        self._seen: defaultdict[str, _Places] = defaultdict(_Places)

    def find(self, zone: int) -> list[Run]:
        """The maximal runs of a zone, first to last, none of which overlap. O(its lines)."""
        extent = self._zones[zone]
        if extent.may_name is None:
            return []
        positions, hashes, window_ends = self._wanted
        seen = [self._seen[trust] for trust in extent.may_name if trust in self._seen]
        runs: list[Run] = []
        index = bisect_left(positions, self._begins[zone])
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
        """Drop spans of lines of a zone, and let those after it name the others.

        Every zone must be settled, in order.
        """
        kept, end = self._kept, self._zones[zone].end
        for first, last in dropped:
            kept[first:last] = [_DROPPED] * (last - first)
        positions, hashes, _ = self._offered
        add = self._seen[self._zones[zone].trust].add
        begin, self._next_offered = self._next_offered, bisect_left(positions, end)
        for index in range(begin, self._next_offered):
            position = positions[index]
            if not dropped or kept[position] != _DROPPED:
                add(hashes[index], position)

    def _longest(
        self, position: int, copies: Sequence[int], window_lines: int, zone: int
    ) -> Run | None:
        """The longest run from here, earliest copy first."""
        kept, extent = self._kept, self._zones[zone]
        best: Run | None = None
        lines = 0
        for candidate in copies:
            source_zone = bisect_right(self._begins, candidate) - 1
            source = self._zones[source_zone]
            if source.unit == extent.unit:
                continue
            limit = min(source.end, candidate + extent.end - position)
            wanted = max(lines + 1, window_lines)
            if candidate + wanted > limit:
                continue
            if kept[candidate : candidate + wanted] != kept[position : position + wanted]:
                continue
            behind, ahead = candidate + wanted, position + wanted
            while behind < limit and kept[behind] == kept[ahead]:
                behind += 1
                ahead += 1
            lines = behind - candidate
            best = Run(position, ahead, zone, candidate, source_zone)
        return best


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
    units = np.repeat(np.array([zone.unit for zone in zones], np.int64), lines_per_zone)[positions]
    hashes = _window_hashes(ids, positions, ends[positions])
    first, last = _units_of(hashes, units)
    later = np.flatnonzero(last > units)
    later = later[_ranks(units[later], hashes[later]) < MAX_CANDIDATES]
    classes = _class_numbers(zones, lines_per_zone)[positions]
    later = later[_ranks(classes[later], hashes[later]) < _MAX_PLACES]
    wanted, offered = (
        # Item by item, a memoryview is read faster than an array, and built faster than a list.
        _Seeds(positions[chosen].data, hashes[chosen].data, ends[positions[chosen]].data)
        for chosen in (np.flatnonzero(first < units), later)
    )
    return wanted, offered


def _class_numbers(zones: Sequence[Extent], lines_per_zone: _Integers) -> _Integers:
    """A number for the class of each line."""
    numbers, _ = _intern([zone.trust for zone in zones])
    return np.repeat(np.array(numbers, np.int64), lines_per_zone)


def _ranks(groups: _Integers, hashes: _Unsigned) -> _Integers:
    """How many equal hashes of its group stand before each."""
    order = np.lexsort((hashes, groups))  # stable
    groups, hashes = groups[order], hashes[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (groups[1:] != groups[:-1]) | (hashes[1:] != hashes[:-1])
    places = np.arange(len(order))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return ranks


def _window_ends(keys: Sequence[str], min_chars: int) -> _Integers:
    """The end of the shortest window of `min_chars` from each position; past all if none."""
    begins = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)) + 1, out=begins[1:])
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


def _units_of(hashes: _Unsigned, units: _Integers) -> tuple[_Integers, _Integers]:
    """The first and the last unit that each hash occurs in, or another of its bucket."""
    bits = max(4, (8 * len(hashes)).bit_length())
    buckets = (_mix(hashes) >> np.uint64(64 - bits)).astype(np.int64)
    first, last = np.zeros(1 << bits, np.int64), np.zeros(1 << bits, np.int64)
    first[buckets[::-1]] = units[::-1]
    last[buckets] = units
    return first[buckets], last[buckets]
