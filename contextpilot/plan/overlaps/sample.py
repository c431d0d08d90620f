"""Who is compared with whom when all with all are too many: a sample of those with each block.

Every block stands for the same number of sets at most. They are the ones of the lowest hash in all
blocks alike, so two sets that share several common blocks are found by all of them, or by none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from contextpilot.plan.overlaps.base import Ints

Hashes = NDArray[np.uint64]

_STEP = 0.8
"""By how much the number of sets for a block falls until the pairs are few enough."""


def most_for_a_block(asked: Ints, held: Ints, num_pairs: float) -> int:
    """Return for how many sets a block may stand so that a search takes at most so many pairs.

    Args:
        asked: by block, how many of the searched sets hold it.
        held: by block, how many of all sets hold it.
    """
    most = int(held.max(initial=1))
    while most > 1 and float(asked @ np.minimum(held, most)) > num_pairs:
        most = int(most * _STEP)
    return most


def num_sampled(sets: Any, held: Ints, most: int) -> float:
    """Return about how many sets are in a sample in which a block stands for at most so many.

    Args:
        sets: matrix from `set_matrix`.
        held: by block, how many sets hold it.
    """
    starts = sets.indptr[:-1][np.diff(sets.indptr) > 0]
    if not len(starts):
        return 0.0
    rarest = np.minimum.reduceat(held[sets.indices], starts)
    return float(np.minimum(1.0, most / rarest).sum())


def sampled_postings(sets: Any, hashes: Hashes, most: int) -> Any:
    """Return who holds each block, at most so many: a sparse matrix (blocks x sets) of ones.

    Args:
        sets: matrix from `set_matrix`.
        hashes: of the sets' names.
    """
    order = np.argsort(hashes, kind="stable").astype(np.int32)
    holders = sets[order].T.tocsr()  # of each block, in the order of their hash
    starts = holders.indptr[:-1]
    place = np.arange(holders.nnz) - np.repeat(starts, np.diff(holders.indptr))
    kept = place < most
    ends = np.concatenate([[0], np.cumsum(kept)])[holders.indptr]
    columns = order[holders.indices[kept]]
    ones = np.ones(len(columns), sets.dtype)
    return sparse.csr_matrix((ones, columns, ends), shape=holders.shape)


def name_hash(names: Ints) -> Hashes:
    """Return numbers without any pattern, one for each name."""
    mixed = names.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xC2B2AE3D27D4EB4F)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def pair_hash(a: Hashes, b: Hashes) -> Hashes:
    """Return numbers without any pattern for pairs of such hashes, the same from both sides."""
    return np.asarray((a ^ b) * np.uint64(0x9E3779B97F4A7C15))
