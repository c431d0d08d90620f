"""Sets of blocks as sparse matrices, and the interface of what computes their overlaps.

Sets are the rows of a sparse 0/1 matrix (sets x blocks); the overlap of two sets is the summed
weight of the blocks in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Floats = NDArray[Any]
Bools = NDArray[np.bool_]

LEAST = float(np.finfo(np.float32).tiny)
"""Any overlap that is not 0 is above this."""


class Pairs(NamedTuple):
    """Pairs of a searched set and another: an index into the searched, rising; a position."""

    row: Ints
    column: Ints
    overlaps: Floats


class Arithmetic(Protocol):
    """Whatever computes overlaps. All return the same pairs, in any order within a row."""

    def strong_pairs(
        self, searched: Any, postings: Any, own: Ints, share: float
    ) -> Iterator[Pairs]:
        """Yield who overlaps with each searched set by at least a part of its greatest overlap.

        Pairs of one row come together, rows in order.

        Args:
            searched: sparse matrix (searched sets x blocks) that holds the blocks' weights.
            postings: sparse matrix (blocks x sets) of ones: who holds each block.
            own: the position of every searched set, which is no partner of its own.
            share: that part; 0 for every pair that overlaps at all.
        """


def set_matrix(sets: Sequence[Ints], num_blocks: int) -> Any:
    """Return the sparse 0/1 matrix whose rows are `sets` (arrays of block numbers)."""
    indptr = np.zeros(len(sets) + 1, np.int64)
    np.cumsum([len(s) for s in sets], out=indptr[1:])
    indices = np.concatenate(sets) if len(sets) else np.zeros(0, np.int64)
    data = np.ones(len(indices), np.float64)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(sets), num_blocks))


def weighed(sets: Any, weights: Ints) -> Any:
    """Return a matrix of sets with the weights of their blocks in place of ones."""
    data = sets.data * weights[sets.indices]
    return sparse.csr_matrix((data, sets.indices, sets.indptr), shape=sets.shape)


def num_pairs(sets: Any) -> int:
    """Return how many (set, block, set) pairs comparing all sets with all takes."""
    counts = np.asarray(sets.sum(axis=0)).ravel()
    return int(counts @ counts)


def pairs_by_row(searched: Any, postings: Any) -> Floats:
    """Return how many (set, block, set) pairs the search for each of the sets takes."""
    ones = sparse.csr_matrix(
        (np.ones(searched.nnz), searched.indices, searched.indptr), shape=searched.shape
    )
    return np.asarray(ones @ np.diff(postings.indptr).astype(np.float64))
