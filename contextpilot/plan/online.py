"""Online planning: one context against the index.

First the longest live prefix, exactly; then the other blocks by conditional support, so that
requests which share blocks come to share prefixes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contextpilot.block import Block, BlockKey
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.support import SupportWindow


class Plan(NamedTuple):
    """The plan of one request.

    Attributes:
        order: for each position in the prompt the original rank of its block (a permutation).
        num_live: how many leading blocks are believed to be in the engine's cache.
    """

    order: tuple[int, ...]
    num_live: int


class Head(NamedTuple):
    """What stands in the prompt before the first block: system instruction, earlier turns."""

    keys: tuple[BlockKey, ...] = ()
    tokens: int = 0


NO_HEAD = Head()
_MAX_HEADS = 65_536


class OnlinePlanner:
    """Plans contexts of one namespace and learns from them. Its owner holds the lock."""

    def __init__(self, index: ContextIndex, window: SupportWindow) -> None:
        self.index = index
        self.window = window
        self._heads: OrderedDict[int, None] = OrderedDict()

    def plan(self, blocks: Sequence[Block], bounds: Bounds, head: Head = NO_HEAD) -> Plan:
        """Return the plan of one context; nothing is learnt yet."""
        is_vain = bounds.min_gain_tokens > 0 and not self.recurs(head)
        if is_vain or not bounds.enabled or len(blocks) < 2:
            return self.finish(blocks, range(len(blocks)), head)
        pinned = [block.key for block in blocks[: bounds.pin_first]]
        weights = {block.key: block.weight for block in blocks}
        fixed = set(pinned)
        rest = [key for key in weights if key not in fixed]
        tail, known = self.extend(pinned, rest, weights, head)
        if known < bounds.min_gain_tokens:
            return self.finish(blocks, range(len(blocks)), head)
        order = bounds.limit_shift(ranks_of(blocks, tail, bounds.pin_first))
        return self.finish(blocks, order, head)

    def recurs(self, head: Head) -> bool:
        """Return whether contexts came behind this head before, or prompts that go on after it.

        Behind any other, a conversation's own history for example, nothing of the blocks can be
        cached, and nothing tells that anything ever will be.
        """
        if not head.keys or hash(head.keys) in self._heads:
            return True
        return self.index.match(head.keys) == len(head.keys)

    def extend(
        self,
        placed: Sequence[BlockKey],
        rest: Sequence[BlockKey],
        weights: Mapping[BlockKey, int],
        head: Head = NO_HEAD,
    ) -> tuple[list[BlockKey], int]:
        """Order `rest` to follow `placed`; also return the tokens of those known to recur."""
        live = self.index.longest_prefix({key: weights[key] for key in rest}, [*head.keys, *placed])
        taken = set(live)
        others = [key for key in rest if key not in taken]
        ordered, supported = self.window.order([*placed, *live], others)
        known = sum(weights[key] for key in live)
        known += sum(weights[key] for key in ordered[:supported])
        return live + ordered, known

    def finish(self, blocks: Sequence[Block], order: Sequence[int], head: Head = NO_HEAD) -> Plan:
        """Return the plan with this order, and what of it is live."""
        keys = [blocks[rank].key for rank in order]
        matched = self.index.match([*head.keys, *keys])
        return Plan(tuple(order), max(0, matched - len(head.keys)))

    def learn(
        self,
        blocks: Sequence[Block],
        plan: Plan,
        request_id: str,
        head: Head = NO_HEAD,
        tail_tokens: int = 0,
    ) -> None:
        """Record that a planned context goes to the engine.

        Args:
            tail_tokens: prompt tokens after the last block (annotation, question).
        """
        ordered = [blocks[rank] for rank in plan.order]
        keys = [block.key for block in ordered]
        end = head.tokens
        ends = [end] * len(head.keys)
        for block in ordered:
            end += block.weight
            ends.append(end)
        self.index.insert([*head.keys, *keys], request_id, ends, end + tail_tokens)
        self.window.add(keys)
        if head.keys and blocks:
            self._heads[hash(head.keys)] = None
            self._heads.move_to_end(hash(head.keys))
            if len(self._heads) > _MAX_HEADS:
                self._heads.popitem(last=False)


def ranks_of(blocks: Sequence[Block], keys: Sequence[BlockKey], num_pinned: int = 0) -> list[int]:
    """Return the pinned ranks, those of the first copy of each of `keys`, then of later copies."""
    first: dict[BlockKey, int] = {}
    copies = [
        rank
        for rank, block in enumerate(blocks)
        if first.setdefault(block.key, rank) != rank and rank >= num_pinned
    ]
    moved = [first[key] for key in keys if first[key] >= num_pinned]
    return [*range(min(num_pinned, len(blocks))), *moved, *copies]
