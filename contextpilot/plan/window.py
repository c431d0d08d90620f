"""A few waiting requests against live content: joining a live prefix competes with joining another.

A cluster that shares the set S costs what it shares once, less what of it is live already. So
two clusters a and b gain by merging

    weight(S_a & S_b) + live(S_a & S_b) - live(S_a) - live(S_b)

tokens, live(S) being the weight of the longest live prefix within S: merged, the second of them
hits what both share, but the first can follow the live content only within it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from contextpilot.plan.overlap import Ints
from contextpilot.plan.tree import MergeTree

MAX_WINDOW = 64
"""Contexts up to which every pair is weighed against the live content."""

Live = Callable[[Sequence[int]], int]


def merge_window(sets: Sequence[Ints], weights: Ints, live: Live, min_gain: int = 1) -> MergeTree:
    """Merge the pair of clusters that gains most until none gains `min_gain` tokens.

    Args:
        sets: for each context the sorted, distinct numbers of its blocks.
        weights: tokens of each block number.
        live: returns the tokens of the longest live prefix within a set of block numbers.

    Returns:
        The tree; its roots come with most live content first, since that is evicted next.
    """
    tree = MergeTree(len(sets))
    tokens = weights.tolist()
    shared = {node: frozenset(numbers.tolist()) for node, numbers in enumerate(sets)}
    held = {node: live(sorted(numbers)) for node, numbers in shared.items()}
    heap: list[tuple[int, int, int, int]] = []

    def weigh(a: int, b: int) -> None:
        both = shared[a] & shared[b]
        reach = sum(tokens[number] for number in both)
        if reach - max(held[a], held[b]) < min_gain:  # what both can hold live is no more
            return
        common = live(sorted(both))
        gain = reach + common - held[a] - held[b]
        if gain >= min_gain:
            heapq.heappush(heap, (-gain, a, b, common))

    for b in range(len(sets)):
        for a in range(b):
            weigh(a, b)
    while heap:
        _, a, b, common = heapq.heappop(heap)
        if a not in shared or b not in shared:
            continue
        both = shared.pop(a) & shared.pop(b)
        node = tree.add([a, b], np.array(sorted(both), np.int64))
        held[node] = common
        for other in list(shared):
            shared[node] = both
            weigh(other, node)
        shared[node] = both
    tree.roots = sorted(shared, key=lambda node: (-held[node], node))
    return tree
