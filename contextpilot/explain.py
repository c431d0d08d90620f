"""Why a request hits the prefix cache, and where its hit ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.index import ContextIndex
from contextpilot.plan.online import Head, Plan
from contextpilot.plan.support import SupportWindow

_LABEL_CHARS = 60
_HEAD_CHARS = 4 * _LABEL_CHARS
"""Where a text's first line mostly begins."""


@dataclass(frozen=True)
class Explanation:
    """One request's expected cache hit, as believed when it was planned.

    Attributes:
        request_id: the request.
        matched_blocks: leading blocks that were live.
        matched_tokens: their tokens (estimated unless a tokenizer was given).
        total_tokens: tokens of all blocks of the request.
        first_miss: beginning of the first block that was not live; None if all were.
        reason: why the hit ends there; "unknown" if the request is not remembered.
        reachable_tokens: tokens of blocks seen before in this namespace, in any order.
    """

    request_id: str
    matched_blocks: int = 0
    matched_tokens: int = 0
    total_tokens: int = 0
    first_miss: str | None = None
    reason: str = "unknown"
    reachable_tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, ready for JSON."""
        return asdict(self)


class Explanations:
    """The last requests of a namespace, bounded. Not thread-safe: its owner holds the lock."""

    def __init__(self, max_requests: int = 4096) -> None:
        self._max = max_requests
        self._known: OrderedDict[str, Explanation] = OrderedDict()

    def add(self, explanation: Explanation) -> None:
        """Remember one explanation; the oldest goes when there are too many."""
        self._known[explanation.request_id] = explanation
        while len(self._known) > self._max:
            self._known.popitem(last=False)

    def forget(self, request_id: str) -> None:
        """Forget a request."""
        self._known.pop(request_id, None)

    def get(self, request_id: str) -> Explanation:
        """Return what is known of a request: `reason` "unknown" when nothing is."""
        return self._known.get(request_id) or Explanation(request_id)


def explain_plan(
    request_id: str,
    blocks: Sequence[Block],
    plan: Plan,
    head: Head,
    index: ContextIndex,
    window: SupportWindow,
) -> Explanation:
    """Explain a plan; call it before the plan is learnt."""
    ordered = [blocks[rank] for rank in plan.order]
    keys = [block.key for block in ordered]
    weights = [block.weight for block in ordered]
    matched, missed = keys[: plan.num_live], keys[plan.num_live :]
    known = window.known(keys)
    return Explanation(
        request_id=request_id,
        matched_blocks=len(matched),
        matched_tokens=_held_tokens(matched, sum(weights[: plan.num_live]), head, index),
        total_tokens=sum(weights),
        first_miss=first_miss(blocks, plan),
        reason=_reason(matched, missed, head, index, window),
        reachable_tokens=sum(
            [each for key, each in zip(keys, weights, strict=True) if key in known]
        ),
    )


def _held_tokens(matched: Sequence[BlockKey], tokens: int, head: Head, index: ContextIndex) -> int:
    """Return the tokens of live blocks, and no more than the engine said to hold of them."""
    if not matched:
        return 0
    held = index.held_tokens([*head.keys, *matched], head.tokens + tokens)
    return max(0, held - head.tokens)


def first_miss(blocks: Sequence[Block], plan: Plan) -> str | None:
    """Return the head of the first block of a plan that is not live; None when all are."""
    if plan.num_live == len(plan.order):
        return None
    return _label(blocks[plan.order[plan.num_live]].text)


def _reason(
    matched: Sequence[BlockKey],
    missed: Sequence[BlockKey],
    head: Head,
    index: ContextIndex,
    window: SupportWindow,
) -> str:
    if not missed:
        return "every block is live"
    if not len(window):
        return "cold: the first request of this namespace"
    key, before = missed[0], [*head.keys, *matched]
    if index.is_sparse and index.num_known([*before, key]) > len(before):
        return "not kept: sent before, but the engine keeps no reusable point here"
    if key not in window and not index.was_dropped(key):
        return f"new block: not in any of the last {len(window)} contexts"
    if head.keys and index.num_known(head.keys) < len(head.keys):
        return "new head: the system instruction or the history before the blocks is not live"
    if index.was_dropped(key):
        return "evicted: the engine's cache (or the index's limit) dropped this block"
    if matched:
        return "new combination: seen before, but not live after the preceding blocks"
    return "other order: seen before, but no live prompt begins with it"


def _label(text: str) -> str:
    head = text[:_HEAD_CHARS].strip()
    if len(head) <= _LABEL_CHARS:  # the line may go on behind it
        head = text.strip()
    line = head.splitlines()[0].rstrip() if head else ""
    return line if len(line) <= _LABEL_CHARS else line[: _LABEL_CHARS - 1] + "…"
