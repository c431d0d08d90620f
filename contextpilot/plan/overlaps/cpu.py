"""Overlaps on the processor: sparse products of a few rows at a time, several at once.

Nearly all of a product's entries are weak, and of most rows one number tells which: only what is
above it is looked at twice.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import sparse

from contextpilot.plan.overlaps.base import LEAST, Floats, Ints, Pairs, pairs_by_row
from contextpilot.plan.overlaps.common import Bits, Common

try:  # what `@` calls, without its first pass, which only counts
    from scipy.sparse._sparsetools import csr_matmat
except ImportError:
    csr_matmat = None

_CHUNK_PAIRS = 4_000_000
"""Pairs of (set, block, set) in one product: bounds the memory at about 150 MB a thread."""
_MAX_THREADS = 4
"""SciPy's products let other threads run; more than these wait for memory."""
_PROBES = 64
"""Rows that tell which entries of the others are weak."""
_STRONG_COST = 2.0
"""What a strong entry costs that is found among all, of one of a row that is looked at in full."""

_Span = tuple[int, int]


class Cpu:
    """See `Arithmetic`."""

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        """Yield who overlaps with each searched set by at least a part of its greatest overlap."""
        search = _Search(searched, postings, own, share)
        spans = _spans(np.cumsum(search.pairs))
        if len(spans) > 1:
            return _in_threads(search.strong, spans)
        return map(search.strong, spans)


class _Search:
    """One search: of which rows the strong pairs are found by multiplying."""

    def __init__(self, searched: Any, postings: Any, own: Ints, share: float) -> None:
        self._searched = searched
        self._postings = postings
        self._own = own
        self._share = share
        self._common = Common.of(searched, postings) if share else None
        self._rare = searched
        if self._common is not None:
            self._rare = _without(searched, self._common.bit, self._common.searched)
        self.pairs = pairs_by_row(self._rare, postings)

    def strong(self, span: _Span) -> Pairs:
        """Return the strong pairs of some rows."""
        first, last = span
        product = _product(
            self._rare[first:last], self._postings, int(self.pairs[first:last].sum())
        )
        own, common = self._own[first:last], self._common
        if common is None:
            parts, _ = _strong(product, own, self._share, np.zeros(len(own)))
        else:
            bits = common.searched[first:last]
            product.data += common.sums(bits, np.diff(product.indptr), product.indices)
            parts, least = _strong(product, own, self._share, common.table[bits])
            hidden = np.flatnonzero(common.table[bits] >= least)
            parts += self._again(first + hidden, least[hidden], hidden)
        found = _together(parts)
        return found._replace(row=found.row + first)

    def _again(self, rows: Ints, least: Floats, names: Ints) -> Iterator[Pairs]:
        """Yield the strong pairs of rows of which some may share common blocks alone.

        Args:
            least: from which overlap on they are strong at least.
            names: what to call the rows.
        """
        common = self._common
        assert common is not None
        bits = common.lighter(common.searched[rows], least)
        searched = _without(self._searched[rows], common.bit, bits)
        pairs, own = pairs_by_row(searched, self._postings), self._own[rows]
        for first, last in _spans(np.cumsum(pairs)):
            product = _product(searched[first:last], self._postings, int(pairs[first:last].sum()))
            some, counts = bits[first:last], np.diff(product.indptr)
            product.data += common.sums(some, counts, product.indices)
            parts, _ = _strong(product, own[first:last], self._share, np.zeros(len(some)))
            for part in parts:
                yield part._replace(row=names[first + part.row])


def _without(searched: Any, bit: Bits, left_out: Bits) -> Any:
    """Return the rows without those common blocks whose bits are given for each."""
    counts = np.diff(searched.indptr)
    kept = np.flatnonzero((bit[searched.indices] & np.repeat(left_out, counts)) == 0)
    ends = np.searchsorted(kept, searched.indptr).astype(searched.indptr.dtype)
    parts = searched.data[kept], searched.indices[kept], ends
    return sparse.csr_matrix(parts, shape=searched.shape)


def _spans(ends: Floats) -> list[_Span]:
    """Return first and last + 1 row of each product."""
    spans, first = [], 0
    while first < len(ends):
        done = ends[first - 1] if first else 0.0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK_PAIRS, side="right")))
        spans.append((first, last))
        first = last
    return spans


def _in_threads(work: Callable[[_Span], Pairs], spans: Sequence[_Span]) -> Iterator[Pairs]:
    """Yield the results in order; no more are made than the threads are ahead."""
    waiting: deque[Future[Pairs]] = deque()
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, "contextpilot-overlaps") as pool:
        for span in spans:
            waiting.append(pool.submit(work, span))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _product(rows: Any, postings: Any, num_pairs: int) -> Any:
    """Return `rows @ postings`, which takes so many pairs."""
    indexes = {rows.indices.dtype, postings.indices.dtype, rows.indptr.dtype, postings.indptr.dtype}
    if csr_matmat is None or len(indexes) > 1 or rows.dtype != postings.dtype:
        return rows @ postings
    shape = rows.shape[0], postings.shape[1]
    ends = np.empty(shape[0] + 1, rows.indptr.dtype)
    columns, sums = np.empty(num_pairs, rows.indices.dtype), np.empty(num_pairs, rows.dtype)
    left, right = ((m.indptr, m.indices, m.data) for m in (rows, postings))
    csr_matmat(*shape, *left, *right, ends, columns, sums)
    return sparse.csr_matrix((sums[: ends[-1]], columns[: ends[-1]], ends), shape=shape)


def _strong(product: Any, own: Ints, share: float, hidden: Floats) -> tuple[list[Pairs], Floats]:
    """Return the strong pairs of a product's rows, and from which overlap on they are strong.

    Rows are left out whose strong pairs may be others.

    Args:
        own: the column of each row's own set.
        hidden: what each row may share with sets that are not in its product.
    """
    low = _cut(product, own, share)
    pairs, least = _above(product, own, share, low)
    weak = np.flatnonzero(least < low)  # of these rows there may be more
    rest = product[weak]
    if len(weak):
        more, least[weak] = _above(rest, own[weak], share, 0.0)
    limits = np.where(hidden >= least, np.inf, least)
    if not len(weak):
        return [_some(pairs, pairs.overlaps >= limits[pairs.row])], least
    more = _some(more, more.overlaps >= limits[weak][more.row])
    limits[weak] = np.inf
    found = _some(pairs, pairs.overlaps >= limits[pairs.row])
    return [found, more._replace(row=weak[more.row])], least


def _above(product: Any, own: Ints, share: float, low: float) -> tuple[Pairs, Floats]:
    """Return a product's entries from `low` on, and which overlap is strong in each row."""
    columns, overlaps, ends = product.indices, product.data, product.indptr
    if low:
        at = np.flatnonzero(overlaps >= product.dtype.type(low))
        columns, overlaps, ends = columns[at], overlaps[at], np.searchsorted(at, ends)
    counts = np.diff(ends)
    row: Any = np.repeat(np.arange(len(own), dtype=np.int32), counts)
    overlaps[columns == np.repeat(own.astype(columns.dtype), counts)] = 0
    some = np.flatnonzero(counts)
    best = np.zeros(len(own))
    if len(some):
        best[some] = np.maximum.reduceat(overlaps, ends[some])
    return Pairs(row, columns, overlaps), np.maximum(best * share, LEAST)


def _cut(product: Any, own: Ints, share: float) -> float:
    """Return below which overlap entries are not worth a look in most rows; 0 where all are.

    Rows whose strong pairs may be below it are looked at in full, so less is no gain either.
    """
    probes = np.arange(0, len(own), max(1, len(own) // _PROBES))
    few = product[probes]
    if len(own) < 2 * _PROBES or not share or not few.nnz:
        return 0.0
    counts, entries = np.diff(few.indptr), np.sort(few.data)
    _, best = _above(few, own[probes], 1.0, 0.0)
    least = np.floor(best * share)
    cuts = np.unique(np.maximum(least, 1.0))
    in_full = np.array([counts[least < cut].sum() for cut in cuts])
    costs = in_full + _STRONG_COST * (len(entries) - np.searchsorted(entries, cuts))
    return float(cuts[costs.argmin()]) if costs.min() < len(entries) else 0.0


def _some(pairs: Pairs, kept: Any) -> Pairs:
    at = np.flatnonzero(kept)
    row, column = pairs.row[at].astype(np.int64), pairs.column[at].astype(np.int64)
    return Pairs(row, column, pairs.overlaps[at])


def _together(parts: Sequence[Pairs]) -> Pairs:
    """Return pairs of different rows in order of their rows."""
    parts = [part for part in parts if len(part.row)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    row, column, overlaps = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(row, kind="stable")
    return Pairs(row[order], column[order], overlaps[order])


CPU = Cpu()
