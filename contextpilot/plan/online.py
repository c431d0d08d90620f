"""Online planning: one context against the index.

First the longest live prefix, exactly; then the other blocks by conditional support, so that
requests which share blocks come to share prefixes. Of both, as much as is worth its move.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from contextpilot.block import Block, BlockKey
from contextpilot.index import ContextIndex
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.placeable import Placeable
from contextpilot.plan.price import Candidates, best_lead
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
_LITTLE = 8
"""A cache is small that keeps less than one of so many recent blocks."""
_SENT_WORTH = 0.25
"""What a block counts, in the choice of a path, that was sent there and cannot be reused yet."""


class OnlinePlanner:
    """Plans contexts of one namespace and learns from them. Its owner holds the lock."""

    def __init__(self, index: ContextIndex, window: SupportWindow) -> None:
        self.index = index
        self.window = window
        self._heads: OrderedDict[int, None] = OrderedDict()

    @property
    def num_heads(self) -> int:
        """Heads that contexts came behind lately."""
        return len(self._heads)

    @property
    def has_small_cache(self) -> bool:
        """Whether the cache, from which blocks were evicted, keeps little of what was sent lately.

        Only the engine tells so: without evictions, all that was sent counts as kept.
        """
        index = self.index
        return index.num_dropped > 0 and index.num_blocks * _LITTLE < self.window.num_keys

    def shed_heads(self, count: int) -> None:
        """Forget so many of these heads, the oldest first."""
        for _ in range(min(count, len(self._heads))):
            self._heads.popitem(last=False)

    def plan(self, blocks: Sequence[Block], bounds: Bounds, head: Head = NO_HEAD) -> Plan:
        """Return the plan of one context; nothing is learnt yet."""
        if not bounds.enabled or len(blocks) < 2:
            return self.finish(blocks, range(len(blocks)), head)
        bounds = bounds.decided
        is_vain = bounds.min_gain_tokens > 0 and not self.recurs(head)
        if is_vain and bounds.anchor != "end":
            return self.finish(blocks, range(len(blocks)), head)
        context = Placeable(blocks, bounds)
        lead = [] if is_vain else self.lead(context, context.pinned, bounds, head)
        if sum([context.weights[key] for key in lead]) < bounds.min_gain_tokens:
            lead = []
        return self.finish(blocks, context.order(lead), head)

    def recurs(self, head: Head) -> bool:
        """Return whether contexts came behind this head before, or prompts that go on after it.

        Behind any other, a conversation's own history for example, nothing of the blocks can be
        cached, and nothing tells that anything ever will be.
        """
        if not head.keys or hash(head.keys) in self._heads:
            return True
        return self.index.num_known(head.keys) == len(head.keys)

    def lead(
        self,
        context: Placeable,
        placed: Sequence[BlockKey],
        bounds: Bounds,
        head: Head = NO_HEAD,
    ) -> list[BlockKey]:
        """Return the blocks that are worth their move to the place after `placed`, in order.

        They are live there, or known to recur: what is likely to be asked for again.
        """
        start, given = [*head.keys, *placed], context.given(placed)
        weights = context.weights
        # What was only sent is live from the next time on, if it is sent in the same order again.
        live = self.index.longest_prefix(given, start, _SENT_WORTH)
        if context.stands_between(placed, live):
            other = self.index.longest_prefix(context.rest(placed), start, _SENT_WORTH)
            lost = sum([weights[key] for key in live]) - sum([weights[key] for key in other])
            live = live if lost >= bounds.between_cost else other
        context.release(live)
        near = self.window.near(weights, self.has_small_cache)
        if not live and not near.all:
            return []
        candidates = Candidates([*context.rest(placed)], context, near, placed)
        lead = candidates.full(live)
        if not bounds.displacement_cost and bounds.anchor != "moved":
            return [step[0] for step in lead]
        found = self.index.match([*start, *given]) - len(start)
        least = sum([*given.values()][: max(0, found)])
        least += bounds.anchor_cost if context.anchored else 0
        return best_lead(candidates, lead, len(live), bounds.displacement_cost, least)

    def finish(self, blocks: Sequence[Block], order: Sequence[int], head: Head = NO_HEAD) -> Plan:
        """Return the plan with this order, and what of it is live."""
        if not self.index.num_blocks:
            return Plan(tuple(order), 0)
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
        weights = [block.weight for block in ordered]
        before, *after = accumulate(weights, initial=head.tokens)
        ends = [before] * len(head.keys) + after
        total = head.tokens + sum(weights) + tail_tokens
        self.index.insert([*head.keys, *keys], request_id, ends, total)
        self.window.add(keys)
        if head.keys and blocks:
            self._heads[hash(head.keys)] = None
            self._heads.move_to_end(hash(head.keys))
            if len(self._heads) > _MAX_HEADS:
                self._heads.popitem(last=False)
