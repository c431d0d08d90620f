"""Weighted overlaps between sets of blocks: the one place where planning time goes.

Sets are the rows of a sparse 0/1 matrix (sets x blocks); the overlap of two sets is the summed
weight of the blocks in both. A GPU path slots in here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import minimum_spanning_tree

Ints = NDArray[np.int64]
Floats = NDArray[Any]
Bools = NDArray[np.bool_]

_CHUNK_PAIRS = 8_000_000
"""Pairs of (set, block, set) in one sparse product: bounds the memory at about 300 MB."""
_EXACT_PAIRS = 60_000_000
"""Beyond this many pairs in a search, blocks in many sets take the approximate path."""
_COMMON_COUNT = 256
_MAX_COMMON = 128
_DENSE_PAIRS = 80_000_000
_NEAR_SHARE = 0.7
"""Sets that overlap with one by this part of its greatest overlap are near it,"""
_MAX_NEAR = 4
"""but only so many."""


class Partners(NamedTuple):
    """For each searched set the position of its best partner (-1: none) and their overlap."""

    positions: Ints
    scores: Floats


def set_matrix(sets: Sequence[Ints], num_blocks: int) -> Any:
    """Return the sparse 0/1 matrix whose rows are `sets` (arrays of block numbers)."""
    indptr = np.zeros(len(sets) + 1, np.int64)
    np.cumsum([len(s) for s in sets], out=indptr[1:])
    indices = np.concatenate(sets) if len(sets) else np.zeros(0, np.int64)
    data = np.ones(len(indices), np.float64)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(sets), num_blocks))


def find_partners(sets: Any, weights: Ints, rows: Ints, names: Ints) -> Partners:
    """Find for each of `rows` the other set with which it overlaps most.

    Of equal overlaps that with the lighter set wins, which leaves less unshared; then a hash of
    the two names, the same from both sides, so that ties fall into pairs instead of chains. Exact
    up to 60 million pairs; beyond that, sets that share only blocks which are very common (in over
    256 sets) are compared with a sample.

    Args:
        sets: matrix from `set_matrix`.
        weights: tokens per block, one for each column.
        rows: positions of the sets to search for.
        names: a number for each set that stays the same while positions change.
    """
    common = _common_blocks(sets, rows)
    if len(common):
        return _find_with_common(sets, weights, rows, names, common)
    choice = _Choice(len(rows), sets, weights, names)
    for chunk in _products(sets, weights, rows):
        choice.offer(chunk, chunk.overlaps, chunk.top(chunk.overlaps))
    return Partners(choice.positions, choice.scores)


def find_near(sets: Any, weights: Ints, rows: Ints, names: Ints) -> Ints:
    """Return pairs of one of `rows` and a set that overlaps with it nearly as much as any other.

    The arguments are those of `find_partners`; beyond its exact range only the best is near.

    Returns:
        Two rows: an index into `rows`, rising, and the position of the other set.
    """
    common = _common_blocks(sets, rows)
    if len(common):
        found = _find_with_common(sets, weights, rows, names, common)
        at = np.flatnonzero(found.positions >= 0)
        return np.stack([at, found.positions[at]])
    choice = _Choice(len(rows), sets, weights, names)
    pairs = [np.zeros((2, 0), np.int64)]
    for chunk in _products(sets, weights, rows):
        at = choice.ranked(chunk, chunk.overlaps, chunk.top(chunk.overlaps, _NEAR_SHARE))
        row = chunk.row[at]
        first = np.flatnonzero(np.diff(row, prepend=-1))
        place = np.arange(len(row)) - np.repeat(first, np.diff(np.append(first, len(row))))
        kept = place < _MAX_NEAR
        pairs.append(np.stack([chunk.first + row[kept], chunk.column[at][kept]]).astype(np.int64))
    return np.concatenate(pairs, axis=1)


def _common_blocks(sets: Any, rows: Ints) -> Ints:
    """Return the blocks in very many sets, if comparing `rows` with all sets is too much work."""
    counts = np.bincount(sets.indices, minlength=sets.shape[1])
    if counts[sets[rows].indices].sum() <= _EXACT_PAIRS:
        return np.zeros(0, np.int64)
    common = np.argsort(-counts, kind="stable")[:_MAX_COMMON]
    return common[counts[common] > _COMMON_COUNT]


class _Chunk(NamedTuple):
    """Overlapping pairs of some rows: `row` counts from `first` in the searched rows."""

    first: int
    rows: Ints
    starts: Ints
    counts: Ints
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    overlaps: Floats

    def top(self, scores: Floats, share: float = 1.0) -> Ints:
        """Return the pairs whose score is positive and at least `share` of their row's best."""
        if not len(scores):
            return np.zeros(0, np.int64)
        best = np.maximum.reduceat(scores, self.starts)
        least = np.maximum(best * share, np.finfo(np.float32).tiny)
        return np.flatnonzero(scores >= np.repeat(least, self.counts))


def _products(sets: Any, weights: Ints, rows: Ints) -> Iterator[_Chunk]:
    transposed = sets.T.tocsr()
    counts = np.diff(transposed.indptr)
    searched = sets[rows]
    pairs = searched @ counts.astype(np.float64)
    weighted = searched @ sparse.diags(weights.astype(np.float64))
    ends = np.cumsum(pairs)
    first = 0
    while first < len(rows):
        done = ends[first - 1] if first else 0.0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK_PAIRS, side="right")))
        product = weighted[first:last] @ transposed
        counts = np.diff(product.indptr)
        row = np.repeat(np.arange(last - first, dtype=np.int32), counts)
        column, overlaps = product.indices, product.data
        overlaps[column == rows[first:last].astype(np.int32)[row]] = 0
        some = np.flatnonzero(counts)
        starts, counts = product.indptr[some], counts[some]
        yield _Chunk(first, rows[first:last], starts, counts, row, column, overlaps)
        first = last


class _Choice:
    """The best partner of each searched row so far."""

    def __init__(self, num_rows: int, sets: Any, weights: Ints, names: Ints) -> None:
        self.positions = np.full(num_rows, -1, np.int64)
        self.scores = np.zeros(num_rows)
        self._set_weights = sets @ weights.astype(np.float64)
        self._names = names

    def ranked(self, chunk: _Chunk, scores: Floats, at: Ints) -> Ints:
        """Return the pairs `at` of a chunk row by row, the best first."""
        row, column = chunk.row[at], chunk.column[at]
        tie = _pair_hash(self._names[chunk.rows[row]], self._names[column])
        return at[np.lexsort((tie, self._set_weights[column], -scores[at], row))]

    def offer(self, chunk: _Chunk, scores: Floats, at: Ints) -> None:
        """Take over the pairs `at` of a chunk that are better than what their rows have."""
        at = self.ranked(chunk, scores, at)
        row, column = chunk.row[at], chunk.column[at]
        winner = np.flatnonzero(np.diff(row, prepend=-1))
        to = chunk.first + row[winner]
        better = scores[at[winner]] > self.scores[to]
        self.positions[to[better]] = column[winner[better]]
        self.scores[to[better]] = scores[at[winner[better]]]


def _pair_hash(a: Ints, b: Ints) -> NDArray[np.uint64]:
    low, high = np.minimum(a, b).astype(np.uint64), np.maximum(a, b).astype(np.uint64)
    mixed = (low * np.uint64(0x9E3779B97F4A7C15) + high) * np.uint64(0xC2B2AE3D27D4EB4F)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def _find_with_common(sets: Any, weights: Ints, rows: Ints, names: Ints, common: Ints) -> Partners:
    """Search with the common blocks held as bits: exact wherever a rarer block is shared.

    Pairs that share rarer blocks are found exactly and completed from the bits, if their rare
    overlap is above half of the row's best; pairs that share common blocks only are sought among
    as many sets as a dense product affords.
    """
    bits = sets[:, common].toarray().astype(np.float32)
    rare = sets.copy()
    rare.data[np.isin(rare.indices, common)] = 0
    rare.eliminate_zeros()
    overlap_of = _BitOverlap(bits, weights[common])
    choice = _Choice(len(rows), sets, weights, names)
    positions, scores = _sampled_partners(bits, weights[common], rows, names, overlap_of)
    at = np.flatnonzero(positions >= 0)
    scores[at] += rare[rows[at]].multiply(rare[positions[at]]) @ weights.astype(np.float64)
    choice.positions, choice.scores = positions, scores
    for chunk in _products(rare, weights, rows):
        at = chunk.top(chunk.overlaps, share=0.51)
        full = np.zeros(len(chunk.overlaps))
        full[at] = chunk.overlaps[at] + overlap_of(chunk.rows[chunk.row[at]], chunk.column[at])
        choice.offer(chunk, full, chunk.top(full))
    return Partners(choice.positions, choice.scores)


class _BitOverlap:
    """Overlap weight of two sets on the common blocks, by tables over bytes of their bits."""

    def __init__(self, bits: Floats, weights: Ints) -> None:
        self._bytes = np.packbits(bits.astype(bool), axis=1)
        padded = np.zeros(self._bytes.shape[1] * 8)
        padded[: len(weights)] = weights
        patterns = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        self._tables = padded.reshape(-1, 8) @ patterns.T

    def __call__(self, a: NDArray[Any], b: NDArray[Any]) -> Floats:
        both = self._bytes[a] & self._bytes[b]
        total = np.zeros(len(both))
        for byte, table in enumerate(self._tables):
            total += table[both[:, byte]]
        return total


def _sampled_partners(
    bits: Floats, weights: Ints, rows: Ints, names: Ints, overlap_of: _BitOverlap
) -> tuple[Ints, Floats]:
    sample = np.flatnonzero(bits.any(axis=1))
    size = max(1024, _DENSE_PAIRS // max(1, len(rows)))
    if len(sample) > size:
        order = np.argsort(_pair_hash(names[sample], np.full(len(sample), len(rows))))
        sample = np.sort(sample[order[:size]])
    # a pseudo-random direction per set, the same from both sides, breaks ties by pairs
    jitter = np.sin(names[:, None] * np.array([12.9898, 78.233, 37.719, 93.989]))
    jitter *= 0.2 * np.sqrt(max(1, int(weights.min(initial=1))) / 4)
    left = np.hstack([bits * weights, jitter]).astype(np.float32)
    right = np.hstack([bits, jitter]).astype(np.float32)[sample]
    positions = np.full(len(rows), -1, np.int64)
    step = max(1, _CHUNK_PAIRS // max(1, len(sample)))
    place = np.full(len(bits), -1, np.int64)
    place[sample] = np.arange(len(sample))
    for first in range(0, len(rows), step):
        own = rows[first : first + step]
        product = left[own] @ right.T
        inside = np.flatnonzero(place[own] >= 0)
        product[inside, place[own[inside]]] = -np.inf
        if len(sample):
            positions[first : first + step] = sample[product.argmax(axis=1)]
    scores = np.where(positions >= 0, overlap_of(rows, positions), 0)
    positions[(scores <= 0) | (positions == rows)] = -1
    return positions, np.where(positions >= 0, scores, 0)


def spanning_bound(sets: Any, weights: Ints) -> int:
    """Return the weight of the maximum spanning forest over all pairwise overlaps, in tokens.

    Each request's hit is at most its overlap with some request before it, so no plan can save
    more in an unlimited cache. Memory is bounded: a forest of a union is the forest of forests.
    """
    rows = np.arange(sets.shape[0])
    forest = sparse.csr_matrix((len(rows), len(rows)))
    for chunk in _products(sets, weights, rows):
        origin = chunk.rows[chunk.row]
        upper = np.flatnonzero((origin < chunk.column) & (chunk.overlaps > 0))
        edges = sparse.csr_matrix(
            (-chunk.overlaps[upper], (origin[upper], chunk.column[upper])), shape=forest.shape
        )
        forest = minimum_spanning_tree(forest + edges)
    return round(-float(forest.sum()))


def num_pairs(sets: Any) -> int:
    """Return how many (set, block, set) pairs comparing all sets with all takes."""
    counts = np.asarray(sets.sum(axis=0)).ravel()
    return int(counts @ counts)
