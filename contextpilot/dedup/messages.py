"""Runs of lines that stand in an earlier message of one prompt become short references to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .references import DEFAULT_MIN_CHARS
from .report import DedupReport
from .rewrite import Rewriter
from .shapes import Path, find_slots, with_texts
from .stream import Spans


def deduplicate_messages(
    messages: Sequence[Any], *, min_chars: int = DEFAULT_MIN_CHARS
) -> tuple[list[Any], DedupReport]:
    """Replace lines of tool results and documents that appear in earlier messages of this prompt.

    `messages` are chat messages of the OpenAI (Chat Completions, Responses) or Anthropic shape.
    Each maximal run of lines that appears earlier and has at least `min_chars` characters becomes
    one line, for example

        [7 lines omitted, same as tool result #1: "def main() -> None:"]

    if that is shorter and the quotation is the start of exactly one earlier line. A result that was
    given before as a whole becomes one sentence. Repetitions within one message stay, the earliest
    copy always stays, and no reference points at text that was itself replaced, that reads like a
    reference, or that another tool returned (tools that read files and run commands count as one).
    Line numbers printed by file readers are ignored in matching. JSON keeps its structure: only its
    string values are shortened. System, user and assistant text may be referenced, but is never
    replaced; the same goes for text with Anthropic citations enabled.

    Returns new messages (untouched ones are the same objects; nothing is mutated) and a report
    whose `expand()` gives back the original. Appending messages never changes the outcome for
    those before them, so the prompt's prefix stays cached. Linear in the number of characters.

    Raises TypeError or ValueError for messages of unknown shape and for `min_chars` below 1.
    """
    _check(messages, min_chars)
    return rewrite_messages(messages, min_chars)


def rewrite_messages(
    messages: Sequence[Any],
    min_chars: int = DEFAULT_MIN_CHARS,
    blocks: Mapping[Path, Spans] | None = None,
    hint_template: str = "",
) -> tuple[list[Any], DedupReport]:
    """Do the same; blocks at spans of what users and system said become hints, as a whole."""
    slots = find_slots(messages)
    texts, replacements = Rewriter(slots, min_chars, blocks, hint_template).rewrite()
    changed = with_texts(messages, texts)
    chosen = blocks or {}
    before = sum(len(slot.text) for slot in slots if slot.can_change or slot.path in chosen)
    saved = sum(item.saved for item in replacements)
    return changed, DedupReport(before, before - saved, tuple(replacements), tuple(changed))


def _check(messages: Any, min_chars: Any) -> None:
    if not isinstance(messages, list | tuple):
        raise TypeError(f"messages must be a list of messages, not {type(messages).__name__}")
    if not isinstance(min_chars, int) or isinstance(min_chars, bool):
        raise TypeError(f"min_chars must be an integer, not {type(min_chars).__name__}")
    if min_chars < 1:
        raise ValueError(f"min_chars must be at least 1, not {min_chars}")
