"""What clusters of contexts may hold in front of everything else, and what that saves.

A cluster is a row of sparse matrices whose columns are blocks. Placing the set P before all else
of its contexts turns round every pair of a block of P and one outside P that stood before it; with
`reach` and `relevance` summed over the contexts, that displaces

    sum over P of reach - |P| * (sum over P of relevance)

of what `price.displacement` measures; the order within P comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from contextpilot.plan.overlaps.base import Floats, Ints
from contextpilot.plan.price import relevances

_CHUNK_ENTRIES = 2_000_000
"""Blocks in pairs of sets that are weighed at a time: bounds the memory at about 100 MB."""


class Fronts(NamedTuple):
    """Clusters, one a row.

    Attributes:
        sets: 1 for every block that all contexts of the cluster may hold in front.
        relevance: of these blocks, summed over the contexts.
        reach: what each of them displaces if it alone goes to the very front, and its relevance.
    """

    sets: Any
    relevance: Any
    reach: Any

    @classmethod
    def of(cls, contexts: Sequence[Ints], num_blocks: int) -> Fronts:
        """Return contexts, given as distinct block numbers in original order, as clusters."""
        lengths = [len(numbers) for numbers in contexts]
        ends = np.cumsum([0, *lengths])
        numbers = np.concatenate(contexts) if len(contexts) else np.zeros(0, np.int64)
        tables = [_of_ranks(length) for length in lengths]
        relevance, reach = np.concatenate(tables, axis=1) if tables else np.zeros((2, 0))
        return cls._rows(np.ones(len(numbers)), relevance, reach, numbers, ends, num_blocks)

    @classmethod
    def _rows(
        cls, ones: Floats, relevance: Floats, reach: Floats, numbers: Ints, ends: Ints, columns: int
    ) -> Fronts:
        shape = len(ends) - 1, columns
        return cls(
            *(
                sparse.csr_matrix((data, numbers, ends), shape=shape)
                for data in (ones, relevance, reach)
            )
        )

    def held_twice(self) -> Fronts:
        """Return the clusters without blocks that only one of them holds: nobody shares them."""
        numbers, columns = self.sets.indices, self.sets.shape[1]
        kept = np.flatnonzero(np.bincount(numbers, minlength=columns)[numbers] > 1)
        if len(kept) == len(numbers):
            return self
        ends = np.searchsorted(kept, self.sets.indptr)
        ones, relevance, reach = (matrix.data[kept] for matrix in self)
        return self._rows(ones, relevance, reach, numbers[kept], ends, columns)

    def take(self, rows: Sequence[int] | Ints) -> Fronts:
        """Return some of the clusters."""
        return Fronts(self.sets[rows], self.relevance[rows], self.reach[rows])

    def with_rows(self, other: Fronts) -> Fronts:
        """Return these clusters and others below them."""
        pairs = zip(self, other, strict=True)
        return Fronts(*(sparse.vstack(both, format="csr") for both in pairs))

    def weigh(self, pairs: Ints, weights: Ints, cost: float) -> tuple[Floats, Ints]:
        """Return what the best common front of each pair is worth, and of how many blocks it is."""
        worths, lengths = [np.zeros(0)], [np.zeros(0, np.int64)]
        largest = int(np.diff(self.sets.indptr).max(initial=1))
        step = max(1, _CHUNK_ENTRIES // (2 * largest))
        for first in range(0, len(pairs), step):
            some = pairs[first : first + step]
            joined = self._join(some.ravel(), np.full(len(some), 2), weights, cost)
            worths.append(joined.worth)
            lengths.append(np.diff(joined.ends))
        return np.concatenate(worths), np.concatenate(lengths)

    def join(self, groups: Sequence[Sequence[int]], weights: Ints, cost: float) -> Joined:
        """Return what each group of clusters shares at best: worth most less what it displaces.

        A group of n clusters that share a front computes it once instead of n times.
        """
        members = np.array([row for group in groups for row in group], np.int64)
        sizes = np.array([len(group) for group in groups], np.int64)
        return self._join(members, sizes, weights, cost)

    def _join(self, members: Ints, sizes: Ints, weights: Ints, cost: float) -> Joined:
        num_groups = len(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        chosen = sparse.csr_matrix(
            (np.ones(len(members)), members, starts), shape=(num_groups, self.sets.shape[0])
        )
        count, both = chosen @ self.sets, chosen @ self._relevance_and_reach()
        group = np.repeat(np.arange(num_groups), np.diff(count.indptr))
        common = np.flatnonzero(count.data == sizes[group])
        group, numbers = group[common], count.indices[common].astype(np.int64)
        relevance, reach = both.data[common].real.copy(), both.data[common].imag.copy()
        saved = weights[numbers] * (sizes[group] - 1.0)
        taken, worth = _best(group, saved, relevance, reach, cost, num_groups)
        taken = taken[np.lexsort((numbers[taken], reach[taken] - relevance[taken], group[taken]))]
        if cost:
            worth -= cost * self._turned(group[taken], numbers[taken], members, starts)
            taken = taken[worth[group[taken]] > 0]
        ends = np.concatenate([[0], np.cumsum(np.bincount(group[taken], minlength=num_groups))])
        return Joined(worth, numbers[taken], relevance[taken], ends)

    def _relevance_and_reach(self) -> Any:
        """Return both as one matrix of complex numbers, which is summed in one go."""
        values = self.relevance.data + 1j * self.reach.data
        return sparse.csr_matrix(
            (values, self.reach.indices, self.reach.indptr), shape=self.reach.shape
        )

    def _turned(self, group: Ints, numbers: Ints, members: Ints, starts: Ints) -> Floats:
        """Return what the order within the front displaces in the clusters of each group.

        By how many places a block moves within it: at least half of what is turned round.
        """
        sizes = np.diff(starts)
        if not len(group):
            return np.zeros(len(sizes))
        entry = np.repeat(np.arange(len(group)), sizes[group])
        nth = _place(np.repeat(np.arange(len(group)), sizes[group]))
        slot = starts[group[entry]] + nth
        reach, relevance = (
            np.asarray(matrix[members[slot], numbers[entry]]).ravel()
            for matrix in (self.reach, self.relevance)
        )
        order = np.lexsort((entry, reach - relevance, slot))
        own = np.empty(len(order), np.int64)
        own[order] = _place(slot[order])
        moved = relevance * np.abs(own - _place(group)[entry])
        return np.bincount(group[entry], moved, len(sizes))


class Joined(NamedTuple):
    """Common fronts of groups, one after the other, each in the order of least displacement.

    Attributes:
        worth: by group, in tokens.
        ends: those of group i are `numbers[ends[i] : ends[i + 1]]`.
    """

    worth: Floats
    numbers: Ints
    relevance: Floats
    ends: Ints

    def front(self, group: int) -> Ints:
        """Return the front of one group."""
        return self.numbers[self.ends[group] : self.ends[group + 1]]

    def clusters(self, num_blocks: int) -> Fronts:
        """Return the groups as clusters whose front stands first in all contexts."""
        sizes = np.diff(self.ends)
        place = _place(np.repeat(np.arange(len(sizes)), sizes))
        before = np.concatenate([[0.0], np.cumsum(self.relevance)])
        passed = before[:-1] - np.repeat(before[self.ends[:-1]], sizes)
        reach = self.relevance * (place + 1) + passed
        ones = np.ones(len(self.numbers))
        return Fronts._rows(ones, self.relevance, reach, self.numbers, self.ends, num_blocks)


def _place(runs: Ints) -> Ints:
    """Return the place of every entry in its run of equal ones."""
    first = np.flatnonzero(np.diff(runs, prepend=-1))
    return np.arange(len(runs)) - np.repeat(first, np.diff(np.append(first, len(runs))))


@lru_cache(maxsize=256)
def _of_ranks(count: int) -> Floats:
    """Return relevance and reach of every rank in a context of `count` blocks."""
    relevance = np.array(relevances(count))
    passed = np.cumsum(relevance) - relevance
    return np.stack([relevance, relevance * np.arange(1, count + 1) + passed])


def _best(
    group: Ints, saved: Floats, relevance: Floats, reach: Floats, cost: float, num_groups: int
) -> tuple[Ints, Floats]:
    """Return which entries make the best front of their group, and by group what it is worth.

    Of fronts of equal length those are tried whose blocks are worth most when placed alone.
    """
    alone = saved - cost * (reach - relevance)
    order = np.lexsort((-alone, group))
    group = group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(np.append(starts, len(group)))
    length = np.arange(1, len(group) + 1) - np.repeat(starts, sizes)

    def summed(values: Floats) -> Floats:
        total = np.cumsum(values)
        before: Floats = np.repeat(total[starts] - values[starts], sizes)
        return total - before

    worths = summed(alone[order]) + cost * (length - 1) * summed(relevance[order])
    worth = np.zeros(num_groups)
    if not len(starts):
        return order, worth
    best = np.maximum.reduceat(worths, starts)
    worth[group[starts]] = np.maximum(best, 0.0)
    hit = np.flatnonzero((worths >= np.repeat(best, sizes)) & (worths > 0))
    longest = np.zeros(num_groups, np.int64)
    longest[group[hit]] = length[hit]
    return order[length <= longest[group]], worth
