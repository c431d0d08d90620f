"""A few waiting requests against live content: joining a live prefix competes with joining another.

A cluster that shares the set S costs what it shares once, less what of it is live already. So
two clusters a and b gain by merging

    worth(S) + live(S) - live(S_a) - live(S_b)

tokens, S being the front that they share at best, worth(S) its weight less what it displaces, and
live(S) the weight of the longest live prefix within S: merged, the second of them hits what both
share, but the first can follow the live content only within it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import combinations

from contextpilot.plan.bounds import Bounds
from contextpilot.plan.front import Fronts
from contextpilot.plan.overlaps.base import Ints
from contextpilot.plan.tree import MergeTree

MAX_WINDOW = 64
"""Contexts up to which every pair is weighed against the live content."""

Live = Callable[[Sequence[int]], int]


def merge_window(contexts: Sequence[Ints], weights: Ints, live: Live, bounds: Bounds) -> MergeTree:
    """Merge the pair of clusters that gains most until none gains enough.

    Args:
        contexts: for each the distinct numbers of its blocks, most relevant first.
        weights: tokens of each block number.
        live: returns the tokens of the longest live prefix within a set of block numbers.
        bounds: clusters merge if that gains `least_gain` beyond `displacement_cost`.

    Returns:
        The tree; its roots come with most live content first, since that is evicted next.
    """
    tree = MergeTree(len(contexts))
    cost, least = bounds.displacement_cost, bounds.least_gain
    fronts = Fronts.of(contexts, len(weights))
    held = {node: live(sorted(numbers.tolist())) for node, numbers in enumerate(contexts)}
    heap: list[tuple[float, int, int, int]] = []

    def weigh(pairs: list[tuple[int, int]]) -> None:
        joined = fronts.join(pairs, weights, cost)
        for i, (a, b) in enumerate(pairs):
            if joined.worth[i] - max(held[a], held[b]) < least:  # what both hold live is no more
                continue
            common = live(sorted(joined.front(i).tolist()))
            gain = joined.worth[i] + common - held[a] - held[b]
            if gain >= least:
                heapq.heappush(heap, (-gain, a, b, common))

    weigh(list(combinations(range(len(contexts)), 2)))
    while heap:
        _, a, b, common = heapq.heappop(heap)
        if a not in held or b not in held:
            continue
        joined = fronts.join([(a, b)], weights, cost)
        node = tree.add([a, b], joined.front(0))
        fronts = fronts.with_rows(joined.clusters(len(weights)))
        del held[a], held[b]
        others = list(held)
        held[node] = common
        weigh([(other, node) for other in others])
    tree.roots = sorted(held, key=lambda node: (-held[node], node))
    return tree
