"""Maximal repeated runs of lines, found in linear time.

The lines of a prompt form one stream, cut into *zones* (a text, a string inside JSON, a numbered
listing); runs never cross a zone's end. A run can only be replaced if it holds `min_chars`
characters, so the shortest window of lines from a position that holds that many is the seed: a
replaceable run and its earlier copy start with the same window. Windows are compared by a
polynomial hash computed in NumPy; the Python loop visits only positions whose window occurs twice,
and every match is verified line by line. A match is taken only from lines that are still kept, so
what a reference points at is never replaced itself.

Decisions about a line depend on earlier lines alone: appending to the stream changes nothing
before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_CANDIDATES = 8
"""Earlier copies tried per position; the bound that keeps the search linear."""

_DROPPED = -1
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)

_Unsigned = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int64]


class Run(NamedTuple):
    """Lines `start .. start + lines * times` equal `times` copies of `source .. source + lines`."""

    start: int
    source: int
    lines: int
    times: int


class _Seeds(NamedTuple):
    """Positions whose window occurs more than once (a few false ones among them)."""

    positions: Sequence[int]
    hashes: Sequence[int]
    window_ends: Sequence[int]


def drop_repeats(
    keys: Sequence[str],
    zone_ends: Sequence[int],
    min_chars: int,
    accept: Callable[[Run], bool],
    *,
    read_only: Sequence[bool] | None = None,
) -> None:
    """Offer every maximal repeated run, first to last, and drop those which `accept` takes.

    `keys` are the lines as compared (no line ends), `zone_ends` where each zone ends, ascending.
    Zones marked `read_only` serve as sources and are never offered. `accept` decides whether a run
    is dropped; a refused run stays. It must take every run of more than some constant number of
    characters, otherwise time is no longer linear. O(len(keys)) time and memory.
    """
    if not keys:
        return
    ids = _intern(keys)
    id_array, end_array = np.array(ids, np.int64), np.array(zone_ends, np.int64)
    seeds = _repeated_windows(id_array, keys, end_array, min_chars)
    read_only = read_only or [False] * len(zone_ends)
    _Search(ids, zone_ends, read_only, keys, accept).run(seeds)


class _Search:
    """The greedy pass: at each seed the longest match among kept lines, earliest copy first."""

    def __init__(
        self,
        ids: list[int],
        zone_ends: Sequence[int],
        read_only: Sequence[bool],
        keys: Sequence[str],
        accept: Callable[[Run], bool],
    ) -> None:
        self._kept = ids
        self._zone_ends = zone_ends
        self._read_only = read_only
        self._keys = keys
        self._accept = accept

    def run(self, seeds: _Seeds) -> None:
        positions, hashes, window_ends = seeds
        earliest: dict[int, int] = {}
        later: defaultdict[int, list[int]] = defaultdict(list)
        search_from = index = 0
        while index < len(positions):
            position, window = positions[index], hashes[index]
            index += 1
            if earliest.setdefault(window, position) == position:
                continue
            if position >= search_from:
                candidates = (earliest[window], *later.get(window, ()))
                dropped_to, search_from = self._drop_at(
                    position, candidates, window_ends[index - 1]
                )
                if dropped_to > position:
                    index = bisect_left(positions, dropped_to, index)
                    continue
            if len(later[window]) < MAX_CANDIDATES - 1:
                later[window].append(position)

    def _drop_at(
        self, position: int, candidates: Sequence[int], window_end: int
    ) -> tuple[int, int]:
        """The end of the run dropped here (`position` if none) and where to search on."""
        zone = bisect_right(self._zone_ends, position)
        if self._read_only[zone]:
            return position, self._zone_ends[zone]
        zone_end = self._zone_ends[zone]
        source, lines = self._longest(position, candidates, window_end - position, zone_end)
        if not lines:
            return position, position
        skip = self._unquotable(position, window_end)
        if skip:
            # The rest of the run has its own seed, if it is still long enough.
            return position, position + skip
        times = self._times(position, source, lines, zone_end)
        if not self._accept(Run(position, source, lines, times)):
            return position, position
        end = position + lines * times
        self._kept[position:end] = [_DROPPED] * (end - position)
        return end, end

    def _longest(
        self, position: int, candidates: Sequence[int], window_lines: int, zone_end: int
    ) -> tuple[int, int]:
        kept = self._kept
        best_source, best = 0, 0
        for candidate in candidates:
            candidate_end = self._zone_ends[bisect_right(self._zone_ends, candidate)]
            limit = min(candidate_end, position, candidate + zone_end - position)
            wanted = max(best + 1, window_lines)
            if candidate + wanted > limit:
                continue
            if kept[candidate : candidate + wanted] != kept[position : position + wanted]:
                continue
            behind, ahead = candidate + wanted, position + wanted
            while behind < limit and kept[behind] == kept[ahead]:
                behind += 1
                ahead += 1
            best_source, best = candidate, behind - candidate
        return best_source, best

    def _unquotable(self, start: int, end: int) -> int:
        """Lines before the first with a letter or digit, or else before the first not blank."""
        blank = 0
        for skip, key in enumerate(self._keys[start:end]):
            if any(map(str.isalnum, key)):
                return skip
            if blank == skip and not key.strip():
                blank += 1
        return blank if start + blank < end else 0

    def _times(self, position: int, source: int, lines: int, zone_end: int) -> int:
        kept = self._kept
        unit = kept[source : source + lines]
        end, times = position + lines, 1
        while end + lines <= zone_end and kept[end : end + lines] == unit:
            end += lines
            times += 1
        return times


def _intern(keys: Sequence[str]) -> list[int]:
    number: defaultdict[str, int] = defaultdict(count().__next__)
    return list(map(number.__getitem__, keys))


def _repeated_windows(
    ids: _Integers, keys: Sequence[str], zone_ends: _Integers, min_chars: int
) -> _Seeds:
    ends = _window_ends(keys, min_chars)
    lines_per_zone = np.diff(zone_ends, prepend=0)
    positions = np.flatnonzero(ends <= np.repeat(zone_ends, lines_per_zone))
    hashes = _window_hashes(ids, positions, ends[positions])
    repeated = _occurs_again(hashes)
    positions, hashes = positions[repeated], hashes[repeated]
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


def _occurs_again(hashes: _Unsigned) -> npt.NDArray[np.bool_]:
    """True wherever a hash occurs twice; also for about one in eight of the others."""
    bits = max(4, (8 * len(hashes)).bit_length())
    buckets = (_mix(hashes) >> np.uint64(64 - bits)).astype(np.int64)
    again: npt.NDArray[np.bool_] = np.bincount(buckets, minlength=1)[buckets] > 1
    return again
