"""Overlaps on the processor: sparse products of a few rows at a time, several at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from contextpilot.plan.overlaps.base import LEAST, Floats, Ints, Pairs, pairs_by_row

_CHUNK_PAIRS = 4_000_000
"""Pairs of (set, block, set) in one product: bounds the memory at about 150 MB a thread."""
_MAX_THREADS = 4
"""SciPy's products let other threads run; more than these wait for memory."""

_Span = tuple[int, int]


class Cpu:
    """See `Arithmetic`."""

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        """Yield who overlaps with each searched set by at least a part of its greatest overlap."""

        def strong(span: _Span) -> Pairs:
            first, last = span
            found = _strong(searched[first:last] @ postings, own[first:last], share)
            return found._replace(row=found.row + first)

        spans = _spans(np.cumsum(pairs_by_row(searched, postings)))
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


def _strong(product: Any, own: Ints, share: float) -> Pairs:
    counts = np.diff(product.indptr)
    row = np.repeat(np.arange(len(own), dtype=np.int32), counts)
    column, overlaps = product.indices, product.data
    overlaps[column == own.astype(column.dtype)[row]] = 0
    some = np.flatnonzero(counts)
    best = np.zeros(len(own))
    if len(some):
        best[some] = np.maximum.reduceat(overlaps, product.indptr[some])
    at = np.flatnonzero(overlaps >= np.maximum(best * share, LEAST)[row])
    return Pairs(row[at].astype(np.int64), column[at].astype(np.int64), overlaps[at])


CPU = Cpu()
