"""Blocks that very many sets hold: they make most pairs of a search and tell little by themselves.

So a search follows the other blocks, and adds what two sets share of the common ones by a table:
of each set they are bits of one number. Only where a set might be near another through common
blocks alone, some of them are followed, too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contextpilot.plan.overlaps.base import Floats, Ints

_MOST = 16
"""Their bits are an index into a table."""
_HOLDERS = 1024
"""By fewer sets held, a block is not common."""
_SHARE = 0.5
"""They are worth it where they make this part of all pairs."""

Bits = NDArray[np.uint16]


def common_blocks(held: Ints) -> Ints:
    """Return the common blocks, the most common first; none where setting them aside gains little.

    Args:
        held: by block, how many sets hold it.
    """
    many = np.flatnonzero(held >= _HOLDERS)
    found = many[np.argsort(-held[many], kind="stable")][:_MOST]
    squares = held.astype(np.float64) ** 2
    return found if squares[found].sum() >= _SHARE * squares.sum() else found[:0]


def followed(held: Ints) -> Ints:
    """Return by block how many sets a search finds by it at least: none by common ones."""
    common = common_blocks(held)
    if not len(common):
        return held
    held = held.copy()
    held[common] = 0
    return held


class Common(NamedTuple):
    """The common blocks of one search.

    Attributes:
        bit: by block, its bit; 0 of those that are not common.
        weights: of each bit's block, the lowest bit first.
        table: what each combination of bits weighs.
        searched: of each searched set, which of its blocks are common.
        others: of every set.
    """

    bit: Bits
    weights: Floats
    table: Floats
    searched: Bits
    others: Bits

    @classmethod
    def of(cls, searched: Any, postings: Any) -> Common | None:
        """Return the common blocks of a search; None if there are none that are worth it."""
        blocks = common_blocks(np.diff(postings.indptr))
        if not len(blocks):
            return None
        bit = np.zeros(postings.shape[0], np.uint16)
        bit[blocks] = 1 << np.arange(len(blocks))
        others = np.zeros(postings.shape[1], np.uint16)
        for block in blocks.tolist():
            holders = slice(*postings.indptr[block : block + 2])
            others[postings.indices[holders]] |= bit[block]
        held = np.flatnonzero(bit[searched.indices])
        by_bit, data = bit[searched.indices[held]], searched.data[held]
        weights = np.zeros(len(blocks), searched.dtype)
        weights[np.frexp(by_bit)[1] - 1] = data
        table = np.zeros(1, searched.dtype)
        for weight in weights:
            table = np.concatenate([table, table + weight])
        row = np.searchsorted(searched.indptr, held, side="right") - 1
        own = np.bincount(row, by_bit, searched.shape[0]).astype(np.uint16)
        return cls(bit, weights, table, own, others)

    def lighter(self, bits: Bits, limits: Floats) -> Bits:
        """Return some of the bits of each set, the most common first, that weigh less than that."""
        total, found = np.zeros(len(bits)), np.zeros_like(bits)
        for place, weight in enumerate(self.weights):
            bit = np.uint16(1 << place)
            more = np.where(bits & bit, weight, 0)
            kept = total + more < limits
            total += more * kept
            found |= bits & bit * kept
        return found

    def sums(self, bits: Bits, counts: Ints, columns: Ints) -> Floats:
        """Return what sets share of these common blocks with others.

        Args:
            bits: of each of some sets.
            counts: with how many others each of them is compared.
            columns: the positions of these.
        """
        return np.asarray(self.table[np.repeat(bits, counts) & self.others[columns]])
