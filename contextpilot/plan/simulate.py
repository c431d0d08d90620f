"""A prefix cache of whole blocks with a capacity in tokens, to measure plans without an engine."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from contextpilot.block import BlockKey

Evicted = Callable[[Hashable, int], None]


class CacheTotals(NamedTuple):
    """Tokens asked of a cache, and those of them that it held."""

    tokens: int
    hits: int

    @property
    def hit_ratio(self) -> float:
        """Hit tokens per token; 0 when nothing was asked."""
        return self.hits / self.tokens if self.tokens else 0.0

    @property
    def prefill_tokens(self) -> int:
        """Tokens that had to be computed."""
        return self.tokens - self.hits


class _Node:
    __slots__ = ("children", "end", "is_point", "key", "owner", "parent", "used", "weight")

    def __init__(self, parent: _Node | None, key: BlockKey, weight: int) -> None:
        self.parent = parent
        self.key = key
        self.weight = weight
        self.end: int = weight + (parent.end if parent else 0)
        self.children: dict[BlockKey, _Node] = {}
        self.used = 0
        self.owner: Hashable = None
        self.is_point = True


class PrefixCache:
    """LRU over the leaves of a prefix tree, as vLLM and SGLang evict, in whole blocks.

    A sparse one can be reused at few points only, as that of a hybrid model in vLLM by default: at
    the end of a prompt, which stands behind its blocks, and where a later request left its path.

    Args:
        capacity: tokens that the cache holds between requests; None for no bound.
        on_evict: called as `on_evict(request, tokens)` when only the first `tokens` of the last
            request that used the evicted block remain.

    Attributes:
        points: tokens of the last request's path at which it can be reused.
    """

    def __init__(
        self,
        capacity: int | None = None,
        on_evict: Evicted | None = None,
        is_sparse: bool = False,
    ) -> None:
        if capacity is not None and capacity < 0:
            raise ValueError("capacity must not be negative")
        self._capacity = capacity
        self._on_evict = on_evict
        self._is_sparse = is_sparse
        self.points: list[int] = []
        self._root = _Node(None, None, 0)
        self._size = 0
        self._clock = 0
        self._leaves: list[tuple[int, int, _Node]] = []
        self._totals = CacheTotals(0, 0)

    @property
    def totals(self) -> CacheTotals:
        """Sums over all requests so far."""
        return self._totals

    @property
    def size(self) -> int:
        """Tokens held now."""
        return self._size

    def request(
        self, keys: Iterable[BlockKey], weights: Mapping[BlockKey, int], name: Hashable = None
    ) -> int:
        """Run one request (blocks in prompt order); return its hit tokens."""
        self._clock += 1
        node, hits, tokens, live = self._root, 0, 0, True
        shared, self.points = self._root, []
        for key in keys:
            weight = weights[key]
            tokens += weight
            child = node.children.get(key)
            if child is None:
                live = False
                child = node.children[key] = _Node(node, key, weight)
                child.is_point = not self._is_sparse
                self._size += weight
            elif live:
                shared = child
                if child.is_point:
                    hits = child.end
                    self.points.append(hits)
            child.used = self._clock
            child.owner = name
            node = child
        if not shared.is_point:  # computed a second time, and kept from now on
            shared.is_point = True
            self.points.append(shared.end)
        if node is not self._root and not node.children:
            self._push(node)
        self._totals = CacheTotals(self._totals.tokens + tokens, self._totals.hits + hits)
        self._evict()
        return hits

    def _push(self, leaf: _Node) -> None:
        heapq.heappush(self._leaves, (leaf.used, id(leaf), leaf))

    def _evict(self) -> None:
        while self._capacity is not None and self._size > self._capacity and self._leaves:
            used, _, leaf = heapq.heappop(self._leaves)
            parent = leaf.parent
            if leaf.children or parent is None:
                continue
            if leaf.used != used:
                self._push(leaf)
                continue
            del parent.children[leaf.key]
            leaf.parent = None
            self._size -= leaf.weight
            if self._on_evict is not None:
                self._on_evict(leaf.owner, parent.end)
            if parent is not self._root and not parent.children:
                self._push(parent)


def simulate(
    contexts: Iterable[Sequence[BlockKey]],
    weights: Mapping[BlockKey, int],
    capacity: int | None = None,
) -> CacheTotals:
    """Run ordered contexts, in this order, through an empty cache; return the sums."""
    cache = PrefixCache(capacity)
    for keys in contexts:
        cache.request(keys, weights)
    return cache.totals
