"""Conditional support: which block will most likely follow those placed so far.

One bit set per block over a sliding window of recent contexts; a conjunction holds the contexts
that contain a whole set of blocks. They count by how many tokens they share with the context at
hand: what is asked next resembles them most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat

from contextpilot.block import BlockKey

_LEVELS = (1.0, 0.85, 0.7, 0.55)
"""Contexts that share less than the last part of what the nearest one shares do not count."""
_POWER = 8
"""A context counts by its overlap, rounded down to a level, to this power."""
_SMALL_LEVELS, _SMALL_POWER = (1.0, 0.75, 0.5, 0.25), 3
"""The same for a small cache: a prefix has to recur soon, so that what many hold counts more."""
_LIGHT, _HEAVY = 0.7, 1.4
"""A block counts 2 in an overlap; 1 below this part of the mean weight, and 4 above the other."""


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

    def near(self, weights: Mapping[BlockKey, int], in_small_cache: bool = False) -> Neighbours:
        """Return those that share most with blocks of these weights; valid until the next `add`.

        Args:
            in_small_cache: the engine keeps a small part of what the window holds.
        """
        masks = [*map(self._masks.get, weights, repeat(0))]
        return Neighbours(masks, [*weights.values()], in_small_cache)


class Neighbours:
    """Recent contexts as bits, weighed by how much they share with the one at hand.

    Args:
        weights: tokens of each of its blocks.
        in_small_cache: as for `SupportWindow.near`.

    Attributes:
        masks: for each of its blocks the contexts that hold it, too.
        all: the contexts that count.
    """

    def __init__(
        self, masks: Sequence[int], weights: Sequence[int], in_small_cache: bool = False
    ) -> None:
        self.masks = masks
        planes = _overlaps(masks, weights)
        top, nearest = 0, -1
        for place in reversed(range(len(planes))):
            if nearest & planes[place]:
                nearest &= planes[place]
                top |= 1 << place
        found, total = [], 0.0
        for level, part, own in _levels(top, in_small_cache):
            reaching = _reaching(planes, level)
            found.append((reaching, part, own))
            total += reaching.bit_count() * own
        self.all = found[-1][0] if found else 0
        self._nearest = [(reaching, part / total) for reaching, part, _ in found]
        self._levels = [(reaching, own / total) for reaching, _, own in reversed(found)]

    def share(self, contexts: int) -> float:
        """Return the part of all neighbours, by weight, that is among these contexts: 0 to 1."""
        mass = 0.0
        for level, weight in self._levels:  # who reaches a level also reaches those below it
            contexts &= level
            if not contexts:
                break
            mass += contexts.bit_count() * weight
        return mass

    def nearest(self, contexts: int) -> float:
        """Return the part of all neighbours that the nearest of these contexts is alone."""
        for level, weight in self._nearest:
            if contexts & level:
                return weight
        return 0.0


@lru_cache(maxsize=4096)
def _levels(top: int, in_small_cache: bool) -> Sequence[tuple[int, float, float]]:
    """Return the levels below the greatest overlap, from there down.

    Each with what a context counts that reaches it, and how much of that is more than below.
    """
    below, power = (_SMALL_LEVELS, _SMALL_POWER) if in_small_cache else (_LEVELS, _POWER)
    levels = sorted({max(1, int(top * part)) for part in below}, reverse=True) if top else []
    parts = [(level / top) ** power for level in levels]
    own = [part - next_part for part, next_part in zip(parts, [*parts[1:], 0.0], strict=False)]
    return [*zip(levels, parts, own, strict=True)]


def _overlaps(masks: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Return the overlap with each context as binary digits, the lowest first.

    A context's overlap is the sum of the weights, roughly, of the blocks that it holds.
    """
    known = [weight for mask, weight in zip(masks, weights, strict=True) if mask]
    mean = sum(known) / max(1, len(known))
    light, heavy = _LIGHT * mean, _HEAVY * mean
    ones, twos, fours = list[int](), list[int](), list[int]()
    for mask, weight in zip(masks, weights, strict=True):
        if mask:
            column = ones if weight < light else fours if weight > heavy else twos
            column.append(mask)
    planes, carries = list[int](), list[int]()
    for column in (ones, twos, fours):
        plane, carries = _add_bits(carries + column)
        planes.append(plane)
    while carries:
        plane, carries = _add_bits(carries)
        planes.append(plane)
    return planes


def _add_bits(column: list[int]) -> tuple[int, list[int]]:
    """Return the lowest binary digit of how many masks each bit is set in, and what is carried."""
    carries = []
    if not len(column) & 1:
        column.append(0)
    rest = iter(column)
    plane = next(rest)
    for one, other in zip(rest, rest, strict=True):  # a full adder: three digits make two
        odd = plane ^ one
        carry = plane & one | odd & other
        plane = odd ^ other
        if carry:
            carries.append(carry)
    return plane, carries


def _reaching(planes: Sequence[int], count: int) -> int:
    """Return the contexts whose overlap is at least `count`."""
    more, equal = 0, -1
    last = (count & -count).bit_length() - 1  # lower digits of `count` are 0: all reach them
    for place in range(len(planes) - 1, last - 1, -1):
        both = equal & planes[place]
        if count >> place & 1:
            equal = both
        else:
            more |= both
            equal ^= both
    return more | equal
