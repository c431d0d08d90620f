"""Maximum-overlap agglomeration: a tree of contexts whose inner nodes share heavy sets of blocks.

With an ideal prefix cache every inner node with k children that share the set S saves
(k-1) * weight(S) tokens. Merging never raises an overlap, so pairs that are each other's best
partner can merge at once, in rounds, and give the tree of the one-by-one greedy (up to ties).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from contextpilot.plan.overlap import Floats, Ints, find_partners, set_matrix

Progress = Callable[[int, int], None]


@dataclass
class MergeTree:
    """Contexts are the nodes 0..n-1; a larger number is an inner node.

    `shared[node]` holds the blocks (sorted numbers) that all contexts below an inner node share.
    """

    num_contexts: int
    roots: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)
    shared: dict[int, Ints] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)

    def size(self, node: int) -> int:
        """Return how many contexts are below a node, or 1 for a context."""
        return self._sizes.get(node, 1)

    def add(self, children: list[int], shared: Ints) -> int:
        """Add an inner node and return its number."""
        node = self.num_contexts + len(self.children)
        self.children[node] = children
        self.shared[node] = shared
        self._sizes[node] = sum(map(self.size, children))
        return node


def agglomerate(
    sets: Sequence[Ints],
    weights: Ints,
    progress: Progress | None = None,
    min_score: int = 1,
) -> MergeTree:
    """Merge contexts by greatest shared weight until no two clusters share a block.

    Args:
        sets: for each context the sorted, distinct numbers of its blocks.
        weights: tokens of each block number.
        progress: called as `progress(done, total)` after each round.
        min_score: contexts that share less than so many tokens are not merged.
    """
    tree = MergeTree(len(sets))
    state = _Clusters(tree, sets, weights, max(1, min_score))
    while state.merge_round():
        if progress is not None:
            progress(len(sets) - len(state.names), len(sets))
    tree.roots = state.names.tolist()
    return tree


class _Clusters:
    """The clusters that are still to merge, row by row: name, shared set, best partner."""

    def __init__(
        self, tree: MergeTree, sets: Sequence[Ints], weights: Ints, min_score: int
    ) -> None:
        self._tree = tree
        self._min_score = min_score
        self._weights = weights
        equal: dict[bytes, list[int]] = {}
        for i, blocks in enumerate(sets):
            equal.setdefault(blocks.tobytes(), []).append(i)
        groups = list(equal.values())
        names = [g[0] if len(g) == 1 else tree.add(g, sets[g[0]]) for g in groups]
        self.names: Ints = np.array(names, np.int64)
        self._sets = set_matrix([sets[g[0]] for g in groups], len(weights))
        self._partner: Ints = np.full(len(names), -1, np.int64)
        self._score: Floats = np.zeros(len(names))
        self._stale: Ints = np.arange(len(names))

    def merge_round(self) -> bool:
        """Search partners for new and bereft clusters, then merge; False when none is left."""
        if len(self.names) < 2:
            return False
        self._search()
        hubs, pairs = self._select()
        if not hubs and not pairs:
            self._stale = np.arange(len(self.names))
            self._search()
            hubs, pairs = self._select()
        if not hubs and not pairs:
            return False
        self._merge(hubs, pairs)
        return True

    def _search(self) -> None:
        stale = self._stale
        if not len(stale):
            return
        found = find_partners(self._sets, self._weights, stale, self.names)
        self._partner[stale], self._score[stale] = found
        at = np.flatnonzero(found.positions >= 0)
        at = at[found.scores[at] >= self._score[found.positions[at]]]
        partners = found.positions[at]  # a new cluster may be an equal or sampled better one
        self._partner[partners], self._score[partners] = stale[at], found.scores[at]

    def _select(self) -> tuple[dict[int, list[int]], list[tuple[int, int]]]:
        """Choose merges: mutual best pairs, and hubs whose whole set is in their suitors."""
        partner, score = self._partner, self._score
        has = (partner >= 0) & (score >= self._min_score)
        to = np.where(has, partner, 0)
        own_weight = self._sets @ self._weights.astype(np.float64)
        inside = has & (score >= own_weight[to])
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
                pairs.append((i, j))
                taken.update((i, j))
        return hubs, pairs

    def _merge(self, hubs: dict[int, list[int]], pairs: list[tuple[int, int]]) -> None:
        names, tree = self.names, self._tree
        members = [[hub, *spokes] for hub, spokes in hubs.items()]
        members += [list(pair) for pair in pairs]
        parts = [self._sets[list(hubs)]] if hubs else []
        if pairs:
            left, right = np.array(pairs).T
            parts.append(self._sets[left].multiply(self._sets[right]).tocsr())
        merged: Any = sparse.vstack(parts, format="csr")
        merged.sort_indices()
        new = [
            tree.add(
                names[group].tolist(),
                merged.indices[merged.indptr[i] : merged.indptr[i + 1]].astype(np.int64),
            )
            for i, group in enumerate(members)
        ]
        gone = np.zeros(len(names), bool)
        gone[[i for group in members for i in group]] = True
        self._replace(np.flatnonzero(~gone), merged, np.array(new, np.int64))

    def _replace(self, kept: Ints, merged: Any, new: Ints) -> None:
        position = np.full(len(self.names) + 1, -1, np.int64)
        position[kept] = np.arange(len(kept))
        partner = position[self._partner[kept]]
        bereft = np.flatnonzero((self._partner[kept] >= 0) & (partner < 0))
        self.names = np.concatenate([self.names[kept], new])
        self._sets = sparse.vstack([self._sets[kept], merged], format="csr")
        self._partner = np.concatenate([partner, np.full(len(new), -1, np.int64)])
        self._score = np.concatenate([self._score[kept], np.zeros(len(new))])
        self._stale = np.concatenate([bereft, np.arange(len(kept), len(self.names))])
