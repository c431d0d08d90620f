"""Slow, obvious counterparts of the index, the cache and the planners."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from itertools import combinations

from contextpilot.block import BlockKey
from contextpilot.index import ContextIndex
from contextpilot.radix import Node

Path = tuple[BlockKey, ...]


class PathIndex:
    """A context index that spells out every path from the root."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def insert(self, keys: Sequence[BlockKey]) -> int:
        found = self.match(keys)
        self.paths.update(tuple(keys[:n]) for n in range(1, len(keys) + 1))
        return found

    def match(self, keys: Sequence[BlockKey]) -> int:
        return max((n for n in range(1, len(keys) + 1) if tuple(keys[:n]) in self.paths), default=0)

    def children(self, keys: Sequence[BlockKey]) -> set[BlockKey]:
        return {p[-1] for p in self.paths if p[:-1] == tuple(keys)}

    def cut(self, keys: Sequence[BlockKey], keep: int) -> int:
        stem = tuple(keys[: keep + 1])
        if len(stem) <= keep:
            return 0
        gone = {p for p in self.paths if p[: len(stem)] == stem}
        self.paths -= gone
        return len(gone)

    def heaviest(self, weights: Mapping[BlockKey, int], start: Sequence[BlockKey] = ()) -> int:
        """Weight of the heaviest path after `start` with distinct blocks, all in `weights`."""
        n = len(start)
        tails = [p[n:] for p in self.paths if p[:n] == tuple(start)]
        return max(
            (
                sum(weights[k] for k in t)
                for t in tails
                if len(set(t)) == len(t) and {*t} <= {*weights}
            ),
            default=0,
        )


def check_index(index: ContextIndex) -> set[Path]:
    """Check every invariant of the radix tree; return the paths that it holds."""
    paths: set[Path] = set()
    queued = {id(leaf) for _, _, leaf in index._leaves.entries}
    num_blocks = num_nodes = num_anchors = 0
    stack: list[tuple[Node, Path]] = [(index._root, ())]
    while stack:
        node, path = stack.pop()
        if node is not index._root:
            assert node.keys, "an empty run"
            num_nodes += 1
            num_anchors += node.anchors
            num_blocks += len(node.keys)
            paths.update((*path, *node.keys[:n]) for n in range(1, len(node.keys) + 1))
            assert node.queued == (id(node) in queued)
            assert node.children or node.queued, "a leaf that can never be evicted"
        for first, child in node.children.items():
            assert child.parent is node
            assert child.keys[0] == first
            assert child.used <= node.used or node is index._root
            stack.append((child, (*path, *node.keys)))
    stats = index.stats()
    assert (stats.num_blocks, stats.num_nodes) == (num_blocks, num_nodes)
    assert stats.num_requests == len(index.requests())
    held = [index._anchor(request) for request in index.requests()]
    assert num_anchors == sum(node is not None for node in held)
    assert index._anchors.keys() <= index._requests.keys()
    assert index._num_request_blocks == sum(len(r.keys) + 1 for r in index._requests.values())
    return paths


class PathCache:
    """A prefix cache that spells out every path; evicts the least recently used leaf."""

    def __init__(
        self, capacity: int | None, on_evict: Callable[[Hashable, int], None] | None = None
    ) -> None:
        self.capacity = capacity
        self.on_evict = on_evict
        self.clock = 0
        self.held: dict[Path, tuple[int, Hashable]] = {}

    def size(self, weights: Mapping[BlockKey, int]) -> int:
        return sum(weights[path[-1]] for path in self.held)

    def match(self, keys: Sequence[BlockKey]) -> int:
        n = 0
        while n < len(keys) and tuple(keys[: n + 1]) in self.held:
            n += 1
        return n

    def request(
        self, keys: Sequence[BlockKey], weights: Mapping[BlockKey, int], name: Hashable = None
    ) -> int:
        hits = sum(weights[k] for k in keys[: self.match(keys)])
        self.clock += 1
        for n in range(1, len(keys) + 1):
            self.held[tuple(keys[:n])] = (self.clock, name)
        while self.capacity is not None and self.size(weights) > self.capacity:
            inner = {path[:-1] for path in self.held}
            leaf = min((p for p in self.held if p not in inner), key=lambda p: self.held[p][0])
            _, owner = self.held.pop(leaf)
            if self.on_evict is not None:
                self.on_evict(owner, sum(weights[k] for k in leaf[:-1]))
        return hits


def optimal_saving(sets: Sequence[frozenset[int]], weights: Mapping[int, int]) -> int:
    """Most tokens that any orders of these contexts save: the best over all context trees.

    An inner node over two parts saves the weight of what all contexts below it share.
    """

    @cache
    def best(members: frozenset[int]) -> int:
        if len(members) < 2:
            return 0
        shared = frozenset.intersection(*(sets[i] for i in members))
        first, *others = sorted(members)
        splits = (
            frozenset({first, *side})
            for size in range(len(others))
            for side in combinations(others, size)
        )
        return sum(weights[b] for b in shared) + max(
            best(part) + best(members - part) for part in splits
        )

    return best(frozenset(range(len(sets))))


def overlap(a: frozenset[int], b: frozenset[int], weights: Mapping[int, int]) -> int:
    return sum(weights[block] for block in a & b)
