"""What the engine's cache would have held and hit, had every prompt kept its original order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from contextpilot.block import Block
from contextpilot.plan.online import Head

MAX_TOKENS = 20_000_000
"""Bound on the simulated cache while the engine's own is not known to be full."""


class OriginalOrderCache:
    """Simulates one engine's cache under original orders; as large as the live index proved to be.

    The same as `plan.simulate.PrefixCache`, without an object per block: a prefix is known by its
    hash, and each request moves its prefixes to the end longest first, so that the oldest of all
    is never the head of another.

    Not thread-safe: its owner serialises.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: the engine's cache was reset."""
        self._prefixes: OrderedDict[int, int] = OrderedDict()
        self._size = 0
        self._capacity = MAX_TOKENS
        self._blocks = 0
        self._tokens = 0
        self._most = 0

    def run(
        self, namespace: str, blocks: Sequence[Block], head: Head, held: int, full: bool
    ) -> int:
        """Run a request in its original order; return the tokens of its blocks that would hit.

        Args:
            held: blocks that the engine is believed to hold now.
            full: whether its cache is known to have evicted.
        """
        self._blocks += len(blocks)
        self._tokens += sum([block.weight for block in blocks])
        self._most = max(self._most, held)
        if full and self._blocks:
            self._capacity = min(MAX_TOKENS, self._most * self._tokens // self._blocks)
        prefix = hash((namespace, head.keys))
        path = [(prefix, head.tokens)]
        for block in blocks:
            prefix = hash((prefix, block.key))
            path.append((prefix, block.weight))
        hits = self._hits(path)
        self._use(path)
        return hits

    def _hits(self, path: Sequence[tuple[int, int]]) -> int:
        """Return the tokens that are held of a path, its head not counted."""
        hits = -path[0][1]
        for prefix, weight in path:
            if prefix not in self._prefixes:
                break
            hits += weight
        return max(0, hits)

    def _use(self, path: Sequence[tuple[int, int]]) -> None:
        """Hold a path, as the newest; let the oldest go when there is too much."""
        prefixes = self._prefixes
        for prefix, weight in reversed(path):
            if prefix in prefixes:
                prefixes.move_to_end(prefix)
            else:
                prefixes[prefix] = weight
                self._size += weight
        while self._size > self._capacity:
            self._size -= prefixes.popitem(last=False)[1]
