"""Whole blocks that a prompt already holds become short reference hints."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockKey
from contextpilot.errors import UnknownConversationError

HINT_TEMPLATE = 'Given earlier in this conversation, beginning "{first_line}".'
COPY_TEMPLATE = "Same text as [{position}]."
_FIRST_LINE_CHARS = 60


class Deduplication(NamedTuple):
    """One context compared with what its conversation holds.

    Attributes:
        new_blocks: what the caller passed and the conversation did not hold yet, in order.
        overlapping_blocks: what it holds already.
        reference_hints: for each overlapping block the text that may stand for it.
    """

    new_blocks: list[Any]
    overlapping_blocks: list[Any]
    reference_hints: list[str]


class Conversations:
    """The blocks that each conversation has been given; the oldest conversations are let go.

    Not thread-safe: its owner holds the lock.
    """

    def __init__(self, max_conversations: int = 10_000) -> None:
        self._max = max_conversations
        self._held: OrderedDict[str, set[BlockKey]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, conversation_id: str, keys: Iterable[BlockKey]) -> None:
        """Record blocks of a conversation, which begins here if it is new."""
        self._held.setdefault(conversation_id, set()).update(keys)
        self._held.move_to_end(conversation_id)
        while len(self._held) > self._max:
            self._held.popitem(last=False)

    def deduplicate(
        self, conversation_id: str, blocks: Sequence[Block], template: str
    ) -> Deduplication:
        """Split `blocks` into new and overlapping ones, then record the new ones.

        Raises:
            UnknownConversationError: nothing was recorded under this id.
        """
        held = self._held.get(conversation_id)
        if held is None:
            raise unknown_conversation(conversation_id)
        result = Deduplication([], [], [])
        seen = set(held)
        for block in blocks:
            if block.key in seen:
                result.overlapping_blocks.append(block.value)
                result.reference_hints.append(reference_hint(block.text, template))
            else:
                result.new_blocks.append(block.value)
                seen.add(block.key)
        self.add(conversation_id, seen)
        return result


def unknown_conversation(conversation_id: str) -> UnknownConversationError:
    """Return the error for a conversation of which nothing is recorded."""
    return UnknownConversationError(
        f"conversation_id {conversation_id!r} is unknown in this namespace: pass it to optimize() "
        "with the conversation's first turn"
    )


def reference_hint(text: str, template: str = HINT_TEMPLATE) -> str:
    """Return the hint that stands for a block, quoting the head of its first line."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if len(line) > _FIRST_LINE_CHARS:
        line = line[: _FIRST_LINE_CHARS - 1].rstrip() + "…"
    return template.format(first_line=line)


def hints_for_history(
    blocks: Sequence[Block], texts: Sequence[str], template: str
) -> dict[BlockKey, str]:
    """Return hints for the blocks that stand word for word in one of the history's texts.

    A block no longer than its hint gets none.
    """
    hints = {}
    for block in blocks:
        hint = reference_hint(block.text, template)
        if len(hint) < len(block.text) and any(block.text in text for text in texts):
            hints[block.key] = hint
    return hints
