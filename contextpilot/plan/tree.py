"""Agglomeration of contexts: a tree whose inner nodes share heavy sets of blocks that move little.

With an ideal prefix cache every inner node with k children that share the set S saves
(k-1) * weight(S) tokens; having S in front costs what that displaces in the contexts below. Pairs
that are each other's best partner merge at once, in rounds, after those that share with each other
all that they share with anyone. At no cost merging never raises an
overlap, so that is the tree of the one-by-one greedy (up to ties); at a cost nearly so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.front import Fronts
from contextpilot.plan.overlaps.base import Arithmetic, Bools, Floats, Ints
from contextpilot.plan.overlaps.cpu import CPU
from contextpilot.plan.overlaps.partners import Partners, find_near, find_partners, who_searches

Progress = Callable[[int, int], None]


@dataclass
class MergeTree:
    """Contexts are the nodes 0..n-1; a larger number is an inner node.

    `shared[node]` holds the block numbers that all contexts below an inner node have in front, in
    the order of least displacement; it is part of what its children share.
    """

    num_contexts: int
    roots: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)
    shared: dict[int, Ints] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)

    def size(self, node: int) -> int:
        """Return how many contexts are below a node, or 1 for a context."""
        return self._sizes.get(node, 1)

    def some_leaf(self, node: int) -> int:
        """Return a context below a node."""
        while node >= self.num_contexts:
            node = self.children[node][0]
        return node

    def add(self, children: list[int], shared: Ints) -> int:
        """Add an inner node and return its number."""
        node = self.num_contexts + len(self.children)
        self.children[node] = children
        self.shared[node] = shared
        self._sizes[node] = sum(map(self.size, children))
        return node


def agglomerate(
    contexts: Sequence[Ints],
    weights: Ints,
    bounds: Bounds,
    progress: Progress | None = None,
    arithmetic: Arithmetic = CPU,
) -> MergeTree:
    """Merge contexts by what their common front saves until no two clusters gain by it.

    Args:
        contexts: for each the distinct numbers of its blocks, most relevant first.
        weights: tokens of each block number.
        bounds: clusters merge if that gains `least_gain` beyond `displacement_cost`; at no
            cost they share every block that all their contexts hold.
        progress: called as `progress(done, total)` after each round.
        arithmetic: what computes overlaps.
    """
    tree = MergeTree(len(contexts))
    state = _Clusters(tree, contexts, weights, bounds, arithmetic)
    while state.merge_round():
        if progress is not None:
            progress(len(contexts) - len(state.names), len(contexts))
    tree.roots = state.names.tolist()
    return tree


class _Clusters:
    """The clusters that are still to merge, row by row: name, front, best partner."""

    def __init__(
        self,
        tree: MergeTree,
        contexts: Sequence[Ints],
        weights: Ints,
        bounds: Bounds,
        arithmetic: Arithmetic,
    ) -> None:
        self._tree = tree
        self._arithmetic = arithmetic
        self._min_score = bounds.least_gain
        self._cost = bounds.displacement_cost
        self._weights = weights
        self.names: Ints = np.arange(len(contexts))
        self._fronts = Fronts.of(contexts, len(weights))
        self._partner: Ints = np.full(len(contexts), -1, np.int64)
        self._score: Floats = np.zeros(len(contexts))
        self._inside: Bools = np.zeros(len(contexts), bool)
        self._waiting: Bools = np.zeros(len(contexts), bool)
        self._merge(self._equal())
        self._fronts = self._fronts.held_twice()
        self._merge(self._whole(self._equal()))
        self._waiting[:] = True

    def _equal(self) -> list[list[int]]:
        """Return groups of clusters of equal sets."""
        sets = self._fronts.sets
        ends = sets.indptr.tolist()
        equal: dict[bytes, list[int]] = {}
        for i, (start, end) in enumerate(pairwise(ends)):
            equal.setdefault(np.sort(sets.indices[start:end]).tobytes(), []).append(i)
        return [group for group in equal.values() if len(group) > 1]

    def _whole(self, groups: list[list[int]]) -> list[list[int]]:
        """Return those groups of equal sets that gain by sharing all of it."""
        joined = self._fronts.join(groups, self._weights, self._cost)
        sizes = np.diff(self._fronts.sets.indptr)[[group[0] for group in groups]]
        merges = np.array([len(group) - 1 for group in groups], np.int64)
        gain = joined.worth >= self._min_score * merges
        return [groups[i] for i in np.flatnonzero(gain & (np.diff(joined.ends) == sizes))]

    def merge_round(self) -> bool:
        """Search partners for new and bereft clusters, then merge; False when none is left."""
        if len(self.names) < 2:
            return False
        groups = self._found()
        if not groups:
            self._waiting[:] = True
            groups = self._found()
        self._merge(groups)
        return bool(groups)

    def _found(self) -> list[list[int]]:
        """Search until some can merge; return these, or nothing once nobody waits for a search."""
        groups: list[list[int]] = []
        while self._waiting.any() and not groups:
            self._search()
            groups = self._select()
        return groups

    def _search(self) -> None:
        waiting = np.flatnonzero(self._waiting)
        rows = waiting[who_searches(self._fronts.sets, waiting, self.names)]
        self._waiting[rows] = False
        found, inside, holds = self._partners(rows)
        self._partner[rows], self._score[rows], self._inside[rows] = *found, inside
        at = np.flatnonzero(found.positions >= 0)
        at = at[found.scores[at] >= self._score[found.positions[at]]]
        if len(rows) < len(waiting):  # then several find the same one: the best comes last
            at = at[np.argsort(found.scores[at], kind="stable")]
        partners = found.positions[at]  # a new cluster may be an equal or sampled better one
        self._partner[partners], self._score[partners] = rows[at], found.scores[at]
        self._inside[partners] = holds[at]

    def _partners(self, rows: Ints) -> tuple[Partners, Bools, Bools]:
        """Return with which other cluster each of these gains most.

        And whether they share its whole front then, and it theirs.
        """
        sets = self._fronts.sets
        if not self._cost:
            found = find_partners(sets, self._weights, rows, self.names, self._arithmetic)
            own_weight = sets @ self._weights.astype(np.float64)
            inside = found.scores >= own_weight[found.positions]
            return found, inside, found.scores >= own_weight[rows]
        row, other = find_near(sets, self._weights, rows, self.names, self._arithmetic)
        pairs = np.stack([rows[row], other], axis=1)
        worth, length = self._fronts.weigh(pairs, self._weights, self._cost)
        order = np.lexsort((-worth, row))
        best = order[np.flatnonzero(np.diff(row[order], prepend=-1))]
        best = best[worth[best] > 0]
        row, other = row[best], other[best]
        found = Partners(np.full(len(rows), -1, np.int64), np.zeros(len(rows)))
        found.positions[row], found.scores[row] = other, worth[best]
        whole = np.zeros((2, len(rows)), bool)
        sizes = np.diff(sets.indptr)
        whole[:, row] = length[best] == sizes[other], length[best] == sizes[rows[row]]
        return found, whole[0], whole[1]

    def _select(self) -> list[list[int]]:
        """Choose merges: hubs with those that hold their whole front, and mutual best pairs."""
        partner, score = self._partner, self._score
        has = (partner >= 0) & (score >= self._min_score)
        to = np.where(has, partner, 0)
        inside = has & self._inside
        mutual = has & (partner[to] == np.arange(len(to)))
        candidates = np.flatnonzero(inside | mutual)
        candidates = candidates[np.lexsort((self.names[candidates], -score[candidates]))]
        taken: set[int] = set()
        hubs: dict[int, list[int]] = {}
        pairs = []
        for i in candidates.tolist():
            j = int(partner[i])
            if i in taken or i in hubs or j in taken:
                continue
            if inside[i]:
                hubs.setdefault(j, []).append(i)
                taken.add(i)
            elif j not in hubs:
                pairs.append([i, j])
                taken.update((i, j))
        return [[hub, *spokes] for hub, spokes in hubs.items()] + pairs

    def _merge(self, groups: list[list[int]]) -> None:
        if not groups:
            return
        joined = self._fronts.join(groups, self._weights, self._cost)
        names = self.names
        new = [
            self._tree.add(names[group].tolist(), joined.front(i)) for i, group in enumerate(groups)
        ]
        gone = np.zeros(len(names), bool)
        gone[[i for group in groups for i in group]] = True
        kept = np.flatnonzero(~gone)
        position = np.full(len(names) + 1, -1, np.int64)
        position[kept] = np.arange(len(kept))
        partner = position[self._partner[kept]]
        bereft = np.flatnonzero((self._partner[kept] >= 0) & (partner < 0))
        self.names = np.concatenate([names[kept], np.array(new, np.int64)])
        merged = joined.clusters(len(self._weights))
        self._fronts = self._fronts.take(kept).with_rows(merged).held_twice()
        self._partner = np.concatenate([partner, np.full(len(new), -1, np.int64)])
        self._score = np.concatenate([self._score[kept], np.zeros(len(new))])
        self._inside = np.concatenate([self._inside[kept], np.zeros(len(new), bool)])
        waiting = self._waiting[kept]
        waiting[bereft] = True
        self._waiting = np.concatenate([waiting, np.ones(len(new), bool)])
