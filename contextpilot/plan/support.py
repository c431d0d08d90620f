"""Conditional support: which block will most likely follow those placed so far.

One bit set per block over a sliding window of recent contexts; a conjunction holds the contexts
that contain a whole set of blocks. They count by how much they share with the context at hand:
what is asked next resembles them most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from contextpilot.block import BlockKey

_LEVELS = (1.0, 0.7, 0.4)
"""Contexts that share less than the last part of what the nearest one shares do not count."""
_POWER = 4
"""A context counts by its overlap (number of blocks, rounded down to a level) to this power."""


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

    def known(self, keys: Iterable[BlockKey]) -> set[BlockKey]:
        """Return those of these blocks that stand in some context."""
        return self._masks.keys() & keys

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

    def near(self, keys: Iterable[BlockKey]) -> Neighbours:
        """Return the contexts that share most with one of these blocks; valid until the next."""
        masks = self._masks
        return Neighbours({key: masks[key] for key in keys if key in masks})


class Neighbours:
    """Recent contexts as bits, weighed by how much they share with the one at hand.

    Attributes:
        masks: for each of its blocks that occurred before, the contexts that hold it.
    """

    def __init__(self, masks: Mapping[BlockKey, int]) -> None:
        self.masks = masks
        self._planes = _add_bits(masks.values())
        top, nearest = 0, -1
        for place in reversed(range(len(self._planes))):
            if nearest & self._planes[place]:
                nearest &= self._planes[place]
                top |= 1 << place
        levels = sorted({max(1, int(top * part)) for part in _LEVELS}, reverse=True) if top else []
        self._levels: list[tuple[int, float]] = []
        for i, level in enumerate(levels):  # who reaches a level also reaches those below it
            below = levels[i + 1] ** _POWER if i + 1 < len(levels) else 0
            weight = (level**_POWER - below) / top**_POWER
            self._levels.append((self._sharing(level), weight))
        self._total = sum(level.bit_count() * weight for level, weight in self._levels)

    def _sharing(self, count: int) -> int:
        """Return the contexts that hold at least so many of the blocks."""
        more, equal = 0, -1
        for place in reversed(range(len(self._planes))):
            if count >> place & 1:
                equal &= self._planes[place]
            else:
                more |= equal & self._planes[place]
                equal &= ~self._planes[place]
        return more | equal

    def share(self, contexts: int) -> float:
        """Return the part of all neighbours, by weight, that is among these contexts: 0 to 1."""
        if not contexts or not self._total:
            return 0.0
        mass = 0.0
        for level, weight in self._levels:
            mass += (contexts & level).bit_count() * weight
        return mass / self._total

    def holding(self, keys: Sequence[BlockKey]) -> int:
        """Return the contexts that hold all of these blocks."""
        if not self._levels:
            return 0
        contexts = self._levels[-1][0]
        for key in keys:
            contexts &= self.masks.get(key, 0)
        return contexts


def _add_bits(masks: Iterable[int]) -> list[int]:
    """Return in how many masks each bit is set: its binary digits, the lowest first."""
    planes: list[int] = []
    column = list(masks)
    while column:
        carries = []
        while len(column) > 2:  # a full adder: three digits become one and a carry
            a, b, c = column.pop(), column.pop(), column.pop()
            odd = a ^ b
            column.append(odd ^ c)
            carries.append(a & b | odd & c)
        if len(column) == 2:
            a, b = column
            column = [a ^ b]
            carries.append(a & b)
        planes += column
        column = [carry for carry in carries if carry]
    return planes
