"""What `ContextPilot.rewrite` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from contextpilot.block import Block
from contextpilot.explain import Explanation
from contextpilot.planning import Planned
from contextpilot.prompt.conversation.block_lists import BlockList, BlockLists
from contextpilot.prompt.conversation.given import GivenConversation
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.prompt.conversation.prepare import OFF
from contextpilot.prompt.messages import Messages, RewrittenMessages


@dataclass(frozen=True)
class Rewritten:
    """A conversation ready for the engine, and what was done.

    Attributes:
        messages: in the format in which they were given; unchanged ones are the same objects.
        system: the separate system prompt: as given, or rewritten if it held blocks.
        request_id: the request's id for engine and index; "" if nothing was rewritten.
        order: for each position of the last list in `found`, the original rank of its block. A
            list of an earlier turn is written as it was then.
        num_hinted: blocks of that list that became reference hints.
        saved_chars, saved_tokens: size of the replaced repeats; the tokens are an estimate.
        live_tokens, total_tokens: tokens of the list's blocks believed to be cached, and of all.
        found: the lists of blocks that may move.
        left: the lists that stay, each with the reason.
        reason: why nothing was rewritten; "" if something was planned.
    """

    messages: Messages
    system: Any = None
    request_id: str = ""
    order: tuple[int, ...] = ()
    num_hinted: int = 0
    saved_chars: int = 0
    saved_tokens: int = 0
    live_tokens: int = 0
    total_tokens: int = 0
    found: tuple[BlockList, ...] = ()
    left: tuple[BlockList, ...] = ()
    reason: str = ""

    @property
    def is_rewritten(self) -> bool:
        """Whether the request was planned; its messages may still read as they did."""
        return not self.reason

    @property
    def num_moved(self) -> int:
        """Blocks of the last list that are not at their original rank."""
        return sum(rank != position for position, rank in enumerate(self.order))


class Learnt(NamedTuple):
    """What there is to remember of a conversation that was planned."""

    explanation: Explanation
    blocks: Sequence[Block]


def rewritten(
    given: GivenConversation, planned: Planned, written: WrittenBody, lists: BlockLists
) -> Rewritten:
    """Return what became of a conversation that was planned."""
    told = planned.explanation
    messages = RewrittenMessages(
        given.messages_of(written.body),
        request_id=planned.request_id,
        order=written.order,
        live_tokens=told.matched_tokens,
        total_tokens=told.total_tokens,
        saved_tokens=written.saved_tokens,
    )
    return Rewritten(
        messages=messages,
        system=given.system_of(written.body),
        request_id=planned.request_id,
        order=tuple(written.order),
        num_hinted=written.num_hinted,
        saved_chars=written.saved_chars,
        saved_tokens=written.saved_tokens,
        live_tokens=told.matched_tokens,
        total_tokens=told.total_tokens,
        found=lists.found,
        left=lists.left,
    )


def unchanged(given: GivenConversation, lists: BlockLists, mode: str) -> Rewritten:
    """Return a conversation in which nothing was to be done."""
    reason = OFF if mode == OFF else "no blocks"
    messages = RewrittenMessages(given.messages)
    return Rewritten(messages, given.system, left=lists.left, reason=reason)
