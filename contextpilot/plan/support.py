"""Conditional support: which block will most likely follow those placed so far.

One bit set per block over a sliding window of recent contexts; a conjunction counts the contexts
that contain a whole set of blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from contextpilot.block import BlockKey


class SupportWindow:
    """The last `size` contexts of a namespace. Not thread-safe: its owner holds the lock."""

    def __init__(self, size: int = 2048) -> None:
        if size < 1:
            raise ValueError("size must be at least 1")
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget all contexts."""
        self._contexts: list[tuple[BlockKey, ...]] = []
        self._next = 0
        self._masks: dict[BlockKey, int] = {}
        self.num_keys = 0
        """Blocks of all contexts; what stands in several counts several times."""

    def __len__(self) -> int:
        return len(self._contexts)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._masks

    def add(self, keys: Iterable[BlockKey]) -> None:
        """Record a context; the oldest one leaves a full window."""
        context = tuple(dict.fromkeys(keys))
        slot = self._next
        bit = 1 << slot
        masks = self._masks
        if len(self._contexts) < self._size:
            self._contexts.append(context)
        else:
            self._drop(self._contexts[slot], bit)
            self._contexts[slot] = context
        for key in context:
            masks[key] = masks.get(key, 0) | bit
        self._next = (slot + 1) % self._size
        self.num_keys += len(context)

    def shed(self, num_keys: int) -> None:
        """Forget the oldest contexts, as many as hold so many blocks; all if they hold less."""
        goal, count = max(0, self.num_keys - num_keys), len(self._contexts)
        for step in range(count):
            if self.num_keys <= goal:
                break
            slot = (self._next + step) % count
            self._drop(self._contexts[slot], 1 << slot)
            self._contexts[slot] = ()
        if not self.num_keys:
            self.clear()

    def _drop(self, context: tuple[BlockKey, ...], bit: int) -> None:
        self.num_keys -= len(context)
        for key in context:
            rest = self._masks[key] ^ bit
            if rest:
                self._masks[key] = rest
            else:
                del self._masks[key]

    def order(
        self, placed: Sequence[BlockKey], rest: Sequence[BlockKey]
    ) -> tuple[list[BlockKey], int]:
        """Return `rest` by conditional support given `placed`, and how many have support.

        Next comes the block that occurs most often together with everything placed so far; blocks
        without support follow in their given order. Counts only fall while blocks are placed, so
        stale counts are upper bounds and a heap evaluates few of them.
        """
        masks = self._masks
        together = (1 << len(self._contexts)) - 1
        for key in placed:
            together &= masks.get(key, 0)
        if not together:
            return list(rest), 0
        heap = [
            (-(together & masks[key]).bit_count(), rank, key)
            for rank, key in enumerate(rest)
            if key in masks
        ]
        heapq.heapify(heap)
        ordered: list[BlockKey] = []
        while heap:
            stale, rank, key = heap[0]
            joint = together & masks[key]
            count = -joint.bit_count()
            if count == stale and count:
                ordered.append(key)
                together = joint
                heapq.heappop(heap)
            elif count:
                heapq.heapreplace(heap, (count, rank, key))
            else:
                heapq.heappop(heap)
        taken = set(ordered)
        return ordered + [key for key in rest if key not in taken], len(taken)
