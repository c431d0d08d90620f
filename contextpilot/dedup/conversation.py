"""Whole blocks that a prompt already holds become short reference hints."""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockKey
from contextpilot.errors import UnknownConversationError
from contextpilot.images.image import Image

from .quotes import LENGTHS, quotable
from .references import COPY_TEMPLATE as COPY_TEMPLATE
from .references import DEFAULT_MIN_CHARS
from .references import HINT_TEMPLATE as HINT_TEMPLATE
from .shapes import Path, Slot, find_slots
from .trust import USER

_HEAD_LENGTHS = (*range(1, LENGTHS[0]), *LENGTHS)


class Deduplication(NamedTuple):
    """One context compared with what its conversation holds.

    Attributes:
        new_blocks: blocks that the conversation does not hold yet, in order; also those that no
            hint could tell from others that begin alike.
        overlapping_blocks: blocks that it already holds.
        reference_hints: for each overlapping block, the text that can replace it.
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
        self._held: OrderedDict[str, dict[BlockKey, _Beginnings]] = OrderedDict()
        self.num_blocks = 0
        """Blocks of all conversations, some 800 bytes each; its owner bounds them by `shed`."""

    def __len__(self) -> int:
        return len(self._held)

    def size(self, conversation_id: str) -> int:
        """Return how many blocks of a conversation are known."""
        return len(self._held.get(conversation_id, ()))

    def add(self, conversation_id: str, blocks: Iterable[Block]) -> None:
        """Record blocks of a conversation, which begins here if it is new."""
        held = self._held.setdefault(conversation_id, {})
        for block in blocks:
            if block.key not in held:
                held[block.key] = _beginnings(block.text)
                self.num_blocks += 1
        self._held.move_to_end(conversation_id)
        while len(self._held) > self._max:
            self.num_blocks -= len(self._held.popitem(last=False)[1])

    def shed(self, num_blocks: int) -> None:
        """Forget the oldest conversations, as many as hold so many blocks.

        Of the last one its oldest blocks go: what it is not known to hold is written out again.
        """
        goal = max(0, self.num_blocks - num_blocks)
        while self.num_blocks > goal and len(self._held) > 1:
            self.num_blocks -= len(self._held.popitem(last=False)[1])
        over = max(0, self.num_blocks - goal)
        if over:
            (held,) = self._held.values()
            for key in list(islice(held, over)):
                del held[key]
            self.num_blocks -= over

    def deduplicate(
        self, conversation_id: str, blocks: Sequence[Block], template: str
    ) -> Deduplication:
        """Split `blocks` into new and overlapping ones, then record the new ones.

        Raises:
            UnknownConversationError: nothing was recorded under this id.
        """
        known = self._held.get(conversation_id)
        if known is None:
            raise unknown_conversation(conversation_id)
        before = set(known)
        self.add(conversation_id, blocks)
        held = self._held[conversation_id]
        counts = Counter(beginning for found in held.values() for beginning in found)
        result, seen = Deduplication([], [], []), before
        for block in blocks:
            is_quotable = block.key in seen and not isinstance(block.value, Image)
            quote = _unique_beginning(block.text, counts) if is_quotable else None
            seen.add(block.key)
            if quote is None:
                result.new_blocks.append(block.value)
            else:
                result.overlapping_blocks.append(block.value)
                result.reference_hints.append(reference_hint(quote, template))
        return result


def unknown_conversation(conversation_id: str) -> UnknownConversationError:
    """Return the error for a conversation of which nothing is recorded."""
    return UnknownConversationError(
        f"conversation_id {conversation_id!r} is unknown in this namespace: pass it to optimize() "
        "with the conversation's first turn"
    )


def reference_hint(text: str, template: str = HINT_TEMPLATE) -> str:
    """Return the hint that quotes the first line of a text, as far as quotation marks allow."""
    return template.format(first_line=quotable(_first_line(text)))


def hints_for_history(
    blocks: Sequence[Block], messages: Sequence[Mapping[str, Any]], template: str
) -> dict[BlockKey, str]:
    """Return hints for the blocks that stand as whole lines in what system or user said before.

    A hint quotes the beginning of the line where the block begins, as far as no other line of the
    messages begins so. A block that cannot be named so, or is no longer than its hint, gets none.
    Linear in the characters of both.
    """
    from .rewrite import Rewriter  # needs NumPy, which planning without a history does not

    try:
        slots = [slot._replace(can_change=False) for slot in find_slots(messages)]
    except TypeError:  # of no known shape
        return {}
    unit = slots[-1].unit + 1 if slots else 0
    texts = [block for block in blocks if not isinstance(block.value, Image)]
    paths: dict[Path, Block] = {(len(messages), at): block for at, block in enumerate(texts)}
    slots += [
        Slot(path, block.text, "user message", 0, unit, USER, can_change=False, is_alone=False)
        for path, block in paths.items()
    ]
    spans = {path: [(0, len(block.text))] for path, block in paths.items()}
    _, found = Rewriter(slots, DEFAULT_MIN_CHARS, spans, template).rewrite()
    return {paths[item.path].key: item.reference for item in found}


_Beginnings = tuple[int, ...]


def _beginnings(text: str) -> _Beginnings:
    """Checksums of the beginnings of a text's first line: no text is kept."""
    line = quotable(_first_line(text))
    lengths = [length for length in _HEAD_LENGTHS if length <= len(line)]
    return tuple(_checksum(line[:length]) for length in lengths)


def _unique_beginning(text: str, counts: Mapping[int, int]) -> str | None:
    """The beginning of a text's first line that no other text has; all of it where it is short."""
    line = quotable(_first_line(text))
    lengths = (len(line),) if 0 < len(line) < LENGTHS[0] else LENGTHS
    for length in lengths:
        if length <= len(line) and counts[_checksum(line[:length])] == 1:
            return line[:length]
    return None


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")
