"""Repeated runs of lines inside one prompt become short references to their earliest copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .report import DedupReport
from .rewrite import Rewriter
from .shapes import find_slots, with_texts

DEFAULT_MIN_CHARS = 48


def deduplicate_messages(
    messages: Sequence[Any], *, min_chars: int = DEFAULT_MIN_CHARS
) -> tuple[list[Any], DedupReport]:
    """Replace lines of tool results and documents that stand earlier in the same prompt.

    `messages` are chat messages of the OpenAI (Chat Completions, Responses) or Anthropic shape.
    Each maximal run of lines that repeats earlier ones and holds at least `min_chars` characters
    becomes one line, for example

        [7 lines omitted, same as tool result #1: "def main() -> None:"]

    if that is shorter. The earliest copy always stays, and no reference points at text that was
    itself replaced. Line numbers as file readers print them do not count for matching. JSON keeps
    its structure: only its string values are shortened. System, user and assistant text is left
    alone, and so is text with Anthropic citations enabled.

    Returns new messages (untouched ones are the same objects; nothing is mutated) and a report
    whose `expand()` gives back the original. Appending messages never changes the outcome for
    those before them, so the prompt's prefix stays cached. Linear in the number of characters.

    Raises TypeError or ValueError for messages of unknown shape and for `min_chars` below 1.
    """
    _check(messages, min_chars)
    slots = find_slots(messages)
    texts, replacements = Rewriter(slots, min_chars).rewrite()
    changed = with_texts(messages, texts)
    before = sum(len(slot.text) for slot in slots)
    saved = sum(item.saved for item in replacements)
    return changed, DedupReport(before, before - saved, tuple(replacements), tuple(changed))


def _check(messages: Any, min_chars: Any) -> None:
    if not isinstance(messages, list | tuple):
        raise TypeError(f"messages must be a list of messages, not {type(messages).__name__}")
    if not isinstance(min_chars, int) or isinstance(min_chars, bool):
        raise TypeError(f"min_chars must be an integer, not {type(min_chars).__name__}")
    if min_chars < 1:
        raise ValueError(f"min_chars must be at least 1, not {min_chars}")
