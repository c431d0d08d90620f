"""What the engine's cache would have held and hit, had every prompt kept its original order."""

from __future__ import annotations

from collections.abc import Sequence

from contextpilot.block import Block, BlockKey
from contextpilot.plan.online import Head
from contextpilot.plan.simulate import PrefixCache

MAX_TOKENS = 20_000_000
"""Bound on the simulated cache while the engine's own is not known to be full."""


class _Cache(PrefixCache):
    def resize(self, capacity: int) -> None:
        self._capacity = capacity


class PlainOrder:
    """Simulates one engine's cache under original orders; as large as the live index proved to be.

    Not thread-safe: its owner serialises.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: the engine's cache was reset."""
        self._cache = _Cache(MAX_TOKENS)
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
        self._tokens += sum(block.weight for block in blocks)
        self._most = max(self._most, held)
        if full and self._blocks:
            self._cache.resize(min(MAX_TOKENS, self._most * self._tokens // self._blocks))
        own: list[BlockKey] = [("namespace", namespace), *head.keys]
        weights: dict[BlockKey, int] = dict.fromkeys(own, 0) | {own[-1]: head.tokens}
        weights |= {block.key: block.weight for block in blocks}
        hits = self._cache.request([*own, *(block.key for block in blocks)], weights)
        return max(0, hits - head.tokens)
