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

        def strong(span: _Span) -> Pairs:
            first, last = span
            product = _product(searched[first:last], postings, int(pairs[first:last].sum()))
            found = _strong(product, own[first:last], share)
            return found._replace(row=found.row + first)

        pairs = pairs_by_row(searched, postings)
        spans = _spans(np.cumsum(pairs))
        if len(spans) > 1:
            return _in_threads(strong, spans)
        return map(strong, spans)


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


def _strong(product: Any, own: Ints, share: float) -> Pairs:
    """Return the strong pairs of a product's rows, `own` being the column of each row's own set."""
    low = _cut(product, own, share)
    if not low:
        return _strong_of_all(product, own, share)
    at = np.flatnonzero(product.data >= product.dtype.type(low))
    row, column = np.searchsorted(product.indptr, at, side="right") - 1, product.indices[at]
    pairs = _some(Pairs(row, column, product.data[at]), column != own[row])
    least = _greatest(pairs, len(own)) * share
    least[least < low] = np.inf  # of these rows there may be more
    found = _some(pairs, pairs.overlaps >= least[pairs.row])
    weak = np.flatnonzero(np.isinf(least))
    return _together(found, weak, _strong_of_all(product[weak], own[weak], share))


def _cut(product: Any, own: Ints, share: float) -> float:
    """Return below which overlap entries are not worth a look in most rows; 0 where all are.

    Rows whose strong pairs may be below it are looked at in full, so less is no gain either.
    """
    probes = np.arange(0, len(own), max(1, len(own) // _PROBES))
    few = product[probes]
    if len(own) < 2 * _PROBES or not share or not few.nnz:
        return 0.0
    counts, entries = np.diff(few.indptr), np.sort(few.data)
    best = np.zeros(len(probes))
    pairs = _strong_of_all(few, own[probes], 1.0)
    best[pairs.row] = pairs.overlaps
    least = np.floor(best * share)
    cuts = np.unique(np.maximum(least, 1.0))
    in_full = np.array([counts[least < cut].sum() for cut in cuts])
    costs = in_full + _STRONG_COST * (len(entries) - np.searchsorted(entries, cuts))
    return float(cuts[costs.argmin()]) if costs.min() < len(entries) else 0.0


def _strong_of_all(product: Any, own: Ints, share: float) -> Pairs:
    """The same, looking twice at every entry; the product is changed."""
    counts = np.diff(product.indptr)
    row: Any = np.repeat(np.arange(len(own), dtype=np.int32), counts)
    column, overlaps = product.indices, product.data
    overlaps[column == own.astype(column.dtype)[row]] = 0
    some = np.flatnonzero(counts)
    best = np.zeros(len(own))
    if len(some):
        best[some] = np.maximum.reduceat(overlaps, product.indptr[some])
    return _some(Pairs(row, column, overlaps), overlaps >= np.maximum(best * share, LEAST)[row])


def _some(pairs: Pairs, kept: Any) -> Pairs:
    at = np.flatnonzero(kept)
    row, column = pairs.row[at].astype(np.int64), pairs.column[at].astype(np.int64)
    return Pairs(row, column, pairs.overlaps[at])


def _greatest(pairs: Pairs, num_rows: int) -> Floats:
    """Return the greatest overlap of each row; 0 where it has none."""
    greatest = np.zeros(num_rows)
    first = np.flatnonzero(np.diff(pairs.row, prepend=-1))
    if len(first):
        greatest[pairs.row[first]] = np.maximum.reduceat(pairs.overlaps, first)
    return greatest


def _together(some: Pairs, rows: Ints, others: Pairs) -> Pairs:
    """Return pairs in order of their rows, of which those of `others` are an index into `rows`."""
    both = zip(some, others._replace(row=rows[others.row]), strict=True)
    row, column, overlaps = map(np.concatenate, both)
    order = np.argsort(row, kind="stable")
    return Pairs(row[order], column[order], overlaps[order])


CPU = Cpu()
