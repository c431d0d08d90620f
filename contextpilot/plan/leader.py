"""Who of the contexts that share a front runs first: one that need not move for the others.

The first finds nothing of the front in the cache, so all that its move gains is for others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contextpilot.plan.overlaps.base import Ints
from contextpilot.plan.tree import MergeTree

_LOST = 0.15
"""Part of its tokens that others may compute once more because the first keeps its order."""


def leader(tree: MergeTree, root: int, contexts: Sequence[Ints], weights: Ints) -> int | None:
    """Return the context below `root` that may run first in its original order, if one may.

    It begins with the front of the root or part of it, so that the next one moves for a gain.

    Args:
        contexts: for each the numbers of its blocks, most relevant first.
        weights: tokens of each block number.
    """
    least, chosen = _LOST, None
    stack: list[tuple[int, list[int]]] = [(root, [])]
    while stack:
        node, path = stack.pop()
        if node >= tree.num_contexts:
            placed = {*path}
            new = [number for number in tree.shared[node].tolist() if number not in placed]
            stack.extend((child, path + new) for child in tree.children[node])
        elif path and len(contexts[node]) and contexts[node][0] == path[0]:
            front, given = np.array(path), contexts[node]
            differs = np.flatnonzero(given[: len(front)] != front)
            again = front[differs[0] :] if len(differs) else front[:0]
            lost = float(weights[again].sum() / weights[given].sum())
            if lost <= least:
                least, chosen = lost, node
    return chosen
