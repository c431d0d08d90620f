"""With which other sets each set overlaps most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from contextpilot.plan.overlaps.base import Arithmetic, Floats, Ints, Pairs, weighed
from contextpilot.plan.overlaps.common import common_blocks, followed
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.sample import (
    Hashes,
    most_for_a_block,
    name_hash,
    num_sampled,
    pair_hash,
    sampled_postings,
)

_EXACT_PAIRS = 60_000_000
_EXACT_PAIRS_PER_SET = 600
"""A search of so many (set, block, set) pairs is exact, or of so many for each set that there is;
beyond that, every block stands for a sample."""
_COMMON_COST = 4
"""Where common blocks are set aside, the pairs of the others count so many times."""
_SAMPLED_PAIRS = 20_000_000
_PAIRS_PER_ROW = 1200
"""A search of a sample takes so many pairs at least, and so many for each searched set."""
_SAMPLED_SHARE = 0.7
"""Of a sample, those are compared in full that overlap by this part of the greatest there,"""
_MAX_COMPARED = 16
"""but about so many at most."""
_NEAR_SHARE = 0.7
"""Sets that overlap with one by this part of its greatest overlap are near it,"""
_MAX_NEAR = 4
"""but only so many."""
_MERGING = 1 / 16
"""Part of the sets that merge at least after a search of a sample for all of them."""
_WORTH = 2.0
"""Exact searches of so many are made instead where they cost at most so many times the sample's."""
_MAX_INT = np.iinfo(np.int32).max
_MAX_KEY = 1 << 62
"""What ranks pairs by one number stays below."""


class Partners(NamedTuple):
    """For each searched set the position of its best partner (-1: none) and their overlap."""

    positions: Ints
    scores: Floats


def find_partners(
    sets: Any, weights: Ints, rows: Ints, names: Ints, arithmetic: Arithmetic = CPU
) -> Partners:
    """Find for each of `rows` the other set with which it overlaps most.

    Of equal overlaps that with the lighter set wins, which leaves less unshared; then a hash of
    the two names, the same from both sides, so that ties fall into pairs instead of chains. Exact
    up to 60 million pairs; beyond that, a block that very many sets hold stands for some of them.

    Args:
        sets: matrix from `set_matrix`.
        weights: tokens per block, one for each column.
        rows: positions of the sets to search for.
        names: a number for each set that stays the same while positions change.
        arithmetic: what computes overlaps.
    """
    best = Partners(np.full(len(rows), -1, np.int64), np.zeros(len(rows)))
    for pairs in _ranked(sets, weights, rows, names, 1.0, 1, arithmetic):
        first = np.flatnonzero(np.diff(pairs.row, prepend=-1))
        best.positions[pairs.row[first]] = pairs.column[first]
        best.scores[pairs.row[first]] = pairs.overlaps[first]
    return best


def find_near(
    sets: Any, weights: Ints, rows: Ints, names: Ints, arithmetic: Arithmetic = CPU
) -> Ints:
    """Return pairs of one of `rows` and a set that overlaps with it nearly as much as any other.

    The arguments are those of `find_partners`.

    Returns:
        Two rows: an index into `rows`, rising, and the position of the other set.
    """
    near = [np.zeros((2, 0), np.int64)]
    for pairs in _ranked(sets, weights, rows, names, _NEAR_SHARE, _MAX_NEAR, arithmetic):
        first = np.flatnonzero(np.diff(pairs.row, prepend=-1))
        runs = np.diff(np.append(first, len(pairs.row)))
        kept = np.arange(len(pairs.row)) - np.repeat(first, runs) < _MAX_NEAR
        near.append(np.stack([pairs.row[kept], pairs.column[kept]]))
    return np.concatenate(near, axis=1)


def who_searches(sets: Any, rows: Ints, names: Ints) -> Ints:
    """Return which of `rows` best search next, as indexes, rising: all, or some among all sets.

    A sample for all of them has few sets where all blocks are common ones; then most rows find no
    partner that is not taken by others, and as many exact searches as may merge cost no more.

    The arguments are those of `find_partners`.
    """
    held = np.bincount(sets.indices, minlength=sets.shape[1])
    searched = sets[rows]
    pairs = searched @ followed(held).astype(np.float64)
    total, exact = float(pairs.sum()), _most_pairs(sets, held)
    if total > exact:
        asked = np.bincount(searched.indices, minlength=sets.shape[1])
        at_most = max(_SAMPLED_PAIRS, _PAIRS_PER_ROW * len(rows))
        found = num_sampled(sets, held, most_for_a_block(asked, held, at_most))
        merging = min(found, _MERGING * len(rows))
        if merging * total / len(rows) <= _WORTH * at_most:
            order = np.argsort(name_hash(names[rows]), kind="stable")
            last = int(np.searchsorted(np.cumsum(pairs[order]), exact, side="right"))
            return np.sort(order[: max(1, last)])
    return np.arange(len(rows))


def _most_pairs(sets: Any, held: Ints) -> int:
    """Return how many pairs that are followed a search among all of these sets may take."""
    most = max(_EXACT_PAIRS, _EXACT_PAIRS_PER_SET * int(sets.shape[0]))
    return most // _COMMON_COST if len(common_blocks(held)) else most


def _ranked(
    sets: Any,
    weights: Ints,
    rows: Ints,
    names: Ints,
    share: float,
    most: int,
    arithmetic: Arithmetic,
) -> Iterator[Pairs]:
    """Yield the pairs of at least this part of each row's greatest overlap, the best first.

    Of each row `most` at least, if there are so many; not necessarily more.
    """
    set_weights = (sets @ weights.astype(np.float64)).astype(np.int64)
    if set_weights.max(initial=0) <= _MAX_INT:  # sums of integers take less time, and are equal
        sets, weights = sets.astype(np.int32), weights.astype(np.int32)
    hashes = name_hash(names)
    for row, column, overlaps in _strong(sets, weights, rows, hashes, share, arithmetic):
        kept = _greatest(row, most, overlaps)
        row, column, overlaps = row[kept], column[kept], overlaps[kept]
        tie = pair_hash(hashes[rows[row]], hashes[column])
        lighter = set_weights[column]
        kept = _foremost(row, most, -overlaps.astype(np.int64), lighter, tie)
        row, column, overlaps = row[kept], column[kept], overlaps[kept]
        at = np.lexsort((tie[kept], lighter[kept], -overlaps, row))
        yield Pairs(row[at], column[at], overlaps[at])


def _greatest(row: Ints, most: int, overlaps: Floats) -> Ints:
    """Return some entries of each row, among them the `most` of the greatest overlaps and all ties.

    Where nearly all pairs are strong, what else is done for each takes far longer than this.
    """
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    counts = np.diff(np.append(starts, len(row)))
    if counts.max(initial=0) <= most:
        return np.arange(len(row))
    wanted, least = np.minimum(counts, most), np.maximum.reduceat(overlaps, starts)
    for _ in range(most - 1):
        below = overlaps < np.repeat(least, counts)
        if (counts - np.add.reduceat(below, starts, dtype=np.int64) >= wanted).all():
            break
        lower = np.maximum.reduceat(np.where(below, overlaps, 0), starts)
        least = np.where(lower, lower, least)
    return np.flatnonzero(overlaps >= np.repeat(least, counts))


def _foremost(row: Ints, most: int, first: Ints, second: Ints, tie: Hashes) -> Ints:
    """Return some entries of each row, among them the `most` that are least by the three keys.

    One number that orders nearly as the keys do is sorted faster than they are.
    """
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    counts = np.diff(np.append(starts, len(row)))
    if counts.max(initial=0) <= most:
        return np.arange(len(row))
    key, size = np.repeat(np.arange(len(starts)), counts), len(starts)
    for values in (first, second):
        least = values.min()
        width = int(values.max() - least) + 1
        if size * width > _MAX_KEY:
            break
        key, size = key * width + (values - least), size * width
    else:
        left = 63 - size.bit_length()
        key = (key << left) + (tie >> np.uint64(64 - left)).astype(np.int64) if left else key
    last = np.sort(key)[starts + np.minimum(counts, most) - 1]
    return np.flatnonzero(key <= np.repeat(last, counts))


def _strong(
    sets: Any, weights: Ints, rows: Ints, hashes: Hashes, share: float, arithmetic: Arithmetic
) -> Iterator[Pairs]:
    searched = weighed(sets[rows], weights)
    held = np.bincount(sets.indices, minlength=sets.shape[1])
    asked = np.bincount(searched.indices, minlength=sets.shape[1])
    if float(asked @ followed(held)) <= _most_pairs(sets, held):
        yield from arithmetic.strong_pairs(searched, sets.T.tocsr(), rows, share)
        return
    most = most_for_a_block(asked, held, max(_SAMPLED_PAIRS, _PAIRS_PER_ROW * len(rows)))
    postings = sampled_postings(sets, hashes, most)
    in_order = searched.sorted_indices(), sets.sorted_indices()  # they multiply faster so
    for pairs in arithmetic.strong_pairs(searched, postings, rows, _SAMPLED_SHARE):
        yield _in_full(_some(pairs, rows, hashes), *in_order, share)


def _some(pairs: Pairs, rows: Ints, hashes: Hashes) -> Pairs:
    """Return about so many pairs of each row as are to be compared in full, of no pattern."""
    row, column, overlaps = pairs
    counts = np.bincount(row - row[0])[row - row[0]] if len(row) else row
    chance = pair_hash(hashes[rows[row]], hashes[column]) / np.float64(2**64)
    kept = chance * counts <= _MAX_COMPARED
    return Pairs(row[kept], column[kept], overlaps[kept])


def _in_full(pairs: Pairs, searched: Any, sets: Any, share: float) -> Pairs:
    """Return pairs with their overlap in all blocks, as far as it is great enough then."""
    row, column, _ = pairs
    if not len(row):
        return pairs
    overlaps = np.asarray(searched[row].multiply(sets[column]).sum(axis=1)).ravel()
    first = np.flatnonzero(np.diff(row, prepend=-1))
    best = np.maximum.reduceat(overlaps, first)
    counts = np.diff(np.append(first, len(row)))
    kept = overlaps >= np.repeat(best * share, counts)
    return Pairs(row[kept], column[kept], overlaps[kept])
