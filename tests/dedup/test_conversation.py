"""Whole blocks that a conversation was given already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.block import BlockReader
from contextpilot.dedup.conversation import Conversations, hints_for_history, reference_hint
from contextpilot.errors import UnknownConversationError

read = BlockReader().read
contexts = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=6)


@given(st.lists(st.tuples(st.sampled_from("xy"), contexts), max_size=8))
def test_each_conversation_tells_new_from_known(turns: list[tuple[str, list[str]]]) -> None:
    conversations, held = Conversations(), {"x": set(), "y": set()}
    for name in held:
        conversations.add(name, ())
    for name, context in turns:
        result = conversations.deduplicate(name, read(context), "see {first_line}")
        new = [t for t in dict.fromkeys(context) if t not in held[name]]
        assert result.new_blocks == new
        assert sorted(result.overlapping_blocks + new) == sorted(context)
        assert result.reference_hints == [f"see {text}" for text in result.overlapping_blocks]
        held[name].update(context)


def test_unknown_conversations_are_named() -> None:
    conversations = Conversations()
    with pytest.raises(UnknownConversationError, match="'c'"):
        conversations.deduplicate("c", read(["a"]), "{first_line}")
    assert len(conversations) == 0


def test_the_oldest_conversations_are_let_go() -> None:
    conversations = Conversations(max_conversations=2)
    for name in ("one", "two", "one", "three"):
        conversations.add(name, ())
    assert len(conversations) == 2
    conversations.deduplicate("one", [], "")
    with pytest.raises(UnknownConversationError):
        conversations.deduplicate("two", [], "")


def test_a_hint_quotes_the_head_of_the_first_line_with_text() -> None:
    assert reference_hint("\n  \n  Title \nbody", "<{first_line}>") == "<Title>"
    assert reference_hint("", "<{first_line}>") == "<>"
    quoted = reference_hint("x" * 100, "{first_line}")
    assert quoted == "x" * 59 + "…"
    assert reference_hint("{curly} {0}", "<{first_line}>") == "<{curly} {0}>"


@given(st.lists(st.text("ab\n", max_size=30), max_size=6), st.lists(st.text("ab\n", max_size=60)))
def test_hints_only_for_blocks_that_stand_in_a_text(blocks: list[str], texts: list[str]) -> None:
    hints = hints_for_history(read(blocks), texts, "→{first_line}")
    for block in read(blocks):
        standing = any(block.text in text for text in texts)
        hint = reference_hint(block.text, "→{first_line}")
        expected = hint if standing and len(hint) < len(block.text) else None
        assert hints.get(block.key) == expected


def test_a_block_across_two_messages_gets_no_hint() -> None:
    assert hints_for_history(read(["ab" * 20]), ["ab" * 10, "ab" * 10], "") == {}
