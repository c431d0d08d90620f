"""One context as planners see it: which of its blocks may move, and the order that results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

from contextpilot.block import Block, BlockKey
from contextpilot.plan.bounds import Bounds

_KEY_AND_WEIGHT = itemgetter(Block._fields.index("key"), Block._fields.index("weight"))


def weights_of(blocks: Sequence[Block]) -> dict[BlockKey, int]:
    """Return the tokens of each block, each once, in order."""
    return dict(map(_KEY_AND_WEIGHT, blocks))


class Placeable:
    """The blocks of one context, each once: pinned in front, anchored at the end, or free to move.

    Attributes:
        weights: tokens of every block, in original order.
        ranks: the original rank of every block among those.
        pinned, anchored: which stay in front, and which go next to the question, in that order.
    """

    def __init__(self, blocks: Sequence[Block], bounds: Bounds) -> None:
        self._blocks = blocks
        self._bounds = bounds
        self.weights = weights_of(blocks)
        self.ranks = dict(zip(self.weights, range(len(self.weights)), strict=True))
        first = blocks[: bounds.pin_first]
        self.pinned = list(dict.fromkeys([block.key for block in first])) if first else []
        self.anchored = bounds.anchored(self.weights, self.pinned)

    def rest(self, placed: Collection[BlockKey]) -> dict[BlockKey, int]:
        """Return the blocks that are free to move and not placed yet, in original order.

        With their tokens; it may be `weights` itself.
        """
        return self._without([*placed, *self.anchored])

    def release(self, live: Collection[BlockKey]) -> None:
        """Let those anchored blocks go with the others that a live prefix holds."""
        if self.anchored:
            self.anchored = [key for key in self.anchored if key not in live]

    def stands_between(self, placed: Collection[BlockKey], live: Sequence[BlockKey]) -> bool:
        """Return whether a live prefix after `placed` holds an anchored block behind others."""
        count = max(0, len(self.anchored) - len(placed))
        return any(key in self.anchored for key in live[count:])

    def given(self, placed: Collection[BlockKey]) -> dict[BlockKey, int]:
        """Return what follows `placed` where nothing is gained, with its tokens."""
        if self._bounds.anchor == "end":
            return self.rest(placed)
        return self._without(placed)

    def _without(self, taken: Collection[BlockKey]) -> dict[BlockKey, int]:
        if not taken:
            return self.weights
        rest = self.weights.copy()
        for key in taken:
            rest.pop(key, None)
        return rest

    def order(self, lead: Sequence[BlockKey]) -> list[int]:
        """Return the original ranks: pinned blocks, these, the rest, anchored ones."""
        bounds, blocks = self._bounds, self._blocks
        if not lead and bounds.anchor != "end":
            return list(range(len(blocks)))
        first, copies = self.ranks, list[int]()
        if len(first) < len(blocks):
            first = {}
            copies = [
                rank
                for rank, block in enumerate(blocks)
                if first.setdefault(block.key, rank) != rank and rank >= bounds.pin_first
            ]
        placed = {*self.pinned, *lead}
        moved = [first[key] for key in [*lead, *self.rest(placed)]]
        if self.pinned:
            moved = [rank for rank in moved if blocks[rank].key not in self.pinned]
        last = [first[key] for key in self.anchored if key not in placed]
        if not last and moved == sorted(moved):
            return list(range(len(blocks)))
        num_pinned = min(bounds.pin_first, len(blocks))
        return bounds.limit_shift([*range(num_pinned), *moved, *copies, *last])
