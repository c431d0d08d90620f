"""Overlaps on the processor: sparse products of a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from contextpilot.plan.overlaps.base import LEAST, Ints, Pairs, pairs_by_row

_CHUNK_PAIRS = 8_000_000
"""Pairs of (set, block, set) in one product: bounds the memory at about 300 MB."""


class Cpu:
    """See `Arithmetic`."""

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        """Yield who overlaps with each searched set by at least a part of its greatest overlap."""
        ends = np.cumsum(pairs_by_row(searched, postings))
        first = 0
        while first < len(own):
            done = ends[first - 1] if first else 0.0
            last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK_PAIRS, side="right")))
            found = _strong(searched[first:last] @ postings, own[first:last], share)
            yield found._replace(row=found.row + first)
            first = last


def _strong(product: Any, own: Ints, share: float) -> Pairs:
    counts = np.diff(product.indptr)
    column, overlaps = product.indices, product.data
    overlaps[column == np.repeat(own.astype(column.dtype), counts)] = 0
    some = np.flatnonzero(counts)
    if not len(some):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    best = np.maximum.reduceat(overlaps, product.indptr[some])
    least = np.maximum(best * share, LEAST)
    at = np.flatnonzero(overlaps >= np.repeat(least, counts[some]))
    row = np.searchsorted(product.indptr, at, side="right") - 1
    return Pairs(row, column[at].astype(np.int64), overlaps[at])


CPU = Cpu()
