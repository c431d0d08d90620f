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

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_CANDIDATES = 8
"""Earlier copies of a class tried per position; the bound that keeps the search linear."""

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
        self._kept = _intern(keys)
        self._seeds = _NO_SEEDS
        if keys:
            self._seeds = _shared_windows(np.array(self._kept, np.int64), keys, zones, min_chars)
        self._next_seed = 0
        # By window and class: where it stands, and in which zone.
        self._seen: defaultdict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)

    def find(self, zone: int) -> list[Run]:
        """The maximal runs of a zone, first to last, none of which overlap. O(its lines)."""
        positions, hashes, window_ends = self._seeds
        begin, extent = self._begins[zone], self._zones[zone]
        runs: list[Run] = []
        index = bisect_left(positions, begin)
        while index < len(positions) and (position := positions[index]) < extent.end:
            window_lines = window_ends[index] - position
            run = self._longest(position, hashes[index], window_lines, zone)
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
        positions, hashes, _ = self._seeds
        for first, last in dropped:
            self._kept[first:last] = [_DROPPED] * (last - first)
        end, trust = self._zones[zone].end, self._zones[zone].trust
        index = self._next_seed
        while index < len(positions) and (position := positions[index]) < end:
            if self._kept[position] != _DROPPED:
                self._note(hashes[index], trust, position, zone)
            index += 1
        self._next_seed = index

    def _note(self, window: int, trust: str, position: int, zone: int) -> None:
        seen = self._seen[window, trust]
        if len(seen) < MAX_CANDIDATES:
            seen.append((position, zone))

    def _longest(self, position: int, window: int, window_lines: int, zone: int) -> Run | None:
        """The longest run from here, earliest copy first."""
        kept, extent = self._kept, self._zones[zone]
        best: Run | None = None
        lines = 0
        for trust in extent.may_name or ():
            for candidate, source_zone in self._seen.get((window, trust), ()):
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


class _Seeds(NamedTuple):
    """Positions whose window occurs in two units (a few false ones among them)."""

    positions: Sequence[int]
    hashes: Sequence[int]
    window_ends: Sequence[int]


_NO_SEEDS = _Seeds((), (), ())


def _intern(keys: Sequence[str]) -> list[int]:
    number: defaultdict[str, int] = defaultdict(count().__next__)
    return list(map(number.__getitem__, keys))


def _shared_windows(
    ids: _Integers, keys: Sequence[str], zones: Sequence[Extent], min_chars: int
) -> _Seeds:
    zone_ends = np.array([zone.end for zone in zones], np.int64)
    lines_per_zone = np.diff(zone_ends, prepend=0)
    ends = _window_ends(keys, min_chars)
    positions = np.flatnonzero(ends <= np.repeat(zone_ends, lines_per_zone))
    units = np.repeat(np.array([zone.unit for zone in zones], np.int64), lines_per_zone)
    hashes = _window_hashes(ids, positions, ends[positions])
    shared = _occurs_in_two(hashes, units[positions])
    positions, hashes = positions[shared], hashes[shared]
    # Item by item, a memoryview is read faster than an array, and built faster than a list.
    return _Seeds(positions.data, hashes.data, ends[positions].data)


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


def _occurs_in_two(hashes: _Unsigned, units: _Integers) -> npt.NDArray[np.bool_]:
    """True wherever a hash occurs in two units; also for some of the others.

    Units count up, so a hash that occurs in several differs in its first and its last.
    """
    bits = max(4, (8 * len(hashes)).bit_length())
    buckets = (_mix(hashes) >> np.uint64(64 - bits)).astype(np.int64)
    first, last = np.zeros(1 << bits, np.int64), np.zeros(1 << bits, np.int64)
    first[buckets[::-1]] = units[::-1]
    last[buckets] = units
    shared: npt.NDArray[np.bool_] = first[buckets] != last[buckets]
    return shared
