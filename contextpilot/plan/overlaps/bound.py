"""The bound that no plan passes: the maximum spanning forest over pairwise overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import minimum_spanning_tree

from contextpilot.plan.overlaps.base import Ints, weighed
from contextpilot.plan.overlaps.cpu import CPU


def spanning_bound(sets: Any, weights: Ints) -> int:
    """Return the weight of the maximum spanning forest over all pairwise overlaps, in tokens.

    Each request's hit is at most its overlap with some request before it, so no plan can save
    more in an unlimited cache. Memory is bounded: a forest of a union is the forest of forests.
    """
    rows = np.arange(sets.shape[0])
    forest = sparse.csr_matrix((len(rows), len(rows)))
    for pairs in CPU.strong_pairs(weighed(sets, weights), sets.T.tocsr(), rows, 0.0):
        upper = np.flatnonzero(pairs.row < pairs.column)
        edges = sparse.csr_matrix(
            (-pairs.overlaps[upper], (pairs.row[upper], pairs.column[upper])), shape=forest.shape
        )
        forest = minimum_spanning_tree(forest + edges)
    return round(-float(forest.sum()))
