"""Limits on how far a plan may move blocks from their original rank."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import ceil

from contextpilot.block import BlockKey

ANCHORS = ("auto", "none", "moved", "end")
_MANY_BLOCKS = 10
"""From so many on, a batch does without the most relevant block in the fronts that it shares."""
_ANCHORED_COST = 0.25
_BETWEEN_COST = 4.0
"""What the best block costs behind others, in moves from the first place to the last: there it is
read worst."""
_NUMBERS = ("pin_first", "max_shift", "min_gain_tokens", "displacement_cost", "anchor_blocks")


@dataclass(frozen=True)
class Bounds:
    """How far blocks may move.

    Attributes:
        enabled: False keeps every context in its original order.
        pin_first: this many leading blocks stay in place.
        max_shift: no block moves by more ranks than this; None for no limit.
        displacement_cost: gain in tokens that justifies moving the most relevant block from first
            place to last; other moves cost in proportion to their distance and to the rank of what
            they displace. 0 moves for any gain.
        anchor: where the most relevant blocks go: "end" puts them next to the question in every
            prompt, "moved" only in prompts where blocks move anyway, "none" leaves them among the
            others; "auto" is "moved" if moves have a price, otherwise "none". With "moved", blocks
            stay in front if the cache holds them there (behind others only for four times
            `displacement_cost`), or if a batch shares them in contexts of fewer than ten blocks.
        anchor_blocks: the number of these blocks.
        min_gain_tokens: keep the original order if the blocks known to recur behind the same head
            weigh less than this, for example less than one block of the engine's cache.
    """

    enabled: bool = True
    pin_first: int = 0
    max_shift: int | None = None
    min_gain_tokens: int = 16
    displacement_cost: int = 25
    anchor: str = "auto"
    anchor_blocks: int = 1

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"anchor must be one of {', '.join(ANCHORS)}, not {self.anchor!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None and name == "max_shift":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 0:
                raise ValueError(f"{name} must not be negative, but is {value}")

    @property
    def limited(self) -> bool:
        """Whether it matters where a block stands, so that hints keep their places too."""
        return (
            not self.enabled
            or self.pin_first > 0
            or self.max_shift is not None
            or self.displacement_cost > 0
            or self.anchor not in ("auto", "none")
        )

    @cached_property
    def decided(self) -> Bounds:
        """These bounds with "auto" decided."""
        if self.anchor != "auto":
            return self
        return replace(self, anchor="moved" if self.displacement_cost > 0 else "none")

    @cached_property
    def anchor_cost(self) -> int:
        """Tokens that must be gained besides where the most relevant block moves with the others.

        A part of what moving it elsewhere costs, since at the question it is read well; with "end"
        it moves in any case.
        """
        if self.anchor != "moved" or not self.anchor_blocks:
            return 0
        return ceil(_ANCHORED_COST * self.displacement_cost)

    @property
    def between_cost(self) -> int:
        """Tokens that a live prefix must hold from where it holds the best block behind others."""
        return ceil(_BETWEEN_COST * self.displacement_cost)

    @property
    def least_gain(self) -> int:
        """Tokens that a merge of two contexts must gain beyond what it displaces."""
        return max(1, self.min_gain_tokens + self.anchor_cost)

    def anchored(
        self, weights: Mapping[BlockKey, int], pinned: Collection[BlockKey]
    ) -> list[BlockKey]:
        """Return which of a context's distinct blocks go next to the question, best one last.

        Args:
            weights: tokens of each, most relevant first. Where they are worth less than the move of
                the best one costs, nothing is gained by any.
        """
        if self.anchor in ("auto", "none") or self.anchor_cost >= sum(weights.values()) > 0:
            return []
        free = [key for key in islice(weights, self.anchor_blocks) if key not in pinned]
        return free[::-1]

    def unshared(
        self, weights: Mapping[BlockKey, int], pinned: Collection[BlockKey]
    ) -> list[BlockKey]:
        """Return which of a context's blocks stand in no front that a batch shares; see `anchored`.

        In a short context the best one is too large a part of what can be shared.
        """
        if self.anchor == "moved" and len(weights) < _MANY_BLOCKS:
            return []
        return self.anchored(weights, pinned)

    def limit_shift(self, order: Sequence[int]) -> list[int]:
        """Return the order nearest to `order` in which no rank moves by more than `max_shift`.

        `order` is a permutation of original ranks. At each position comes the first wanted rank
        that may move so far ahead, unless the lowest waiting rank cannot move back any further.
        """
        if self.max_shift is None:
            return list(order)
        turn = {rank: i for i, rank in enumerate(order)}
        allowed: list[tuple[int, int]] = []
        placed: list[int] = []
        done: set[int] = set()
        lowest = released = 0
        for position in range(len(order)):
            while released < len(order) and released <= position + self.max_shift:
                heapq.heappush(allowed, (turn[released], released))
                released += 1
            while lowest in done:
                lowest += 1
            while allowed[0][1] in done:
                heapq.heappop(allowed)
            overdue = lowest + self.max_shift <= position
            placed.append(lowest if overdue else allowed[0][1])
            done.add(placed[-1])
        return placed
