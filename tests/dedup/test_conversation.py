"""Whole blocks that a conversation was given already."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.block import BlockReader
from contextpilot.dedup.conversation import HINT_TEMPLATE, Conversations, hints_for_history
from contextpilot.errors import UnknownConversationError

read = BlockReader().read
TEXTS = ["alpha is old\nand far away", "beta", 'gamma "ray"', "delta"]
contexts = st.lists(st.sampled_from(TEXTS), max_size=6)


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
        heads = [text.split("\n")[0].split('"')[0] for text in result.overlapping_blocks]
        assert result.reference_hints == [f"see {head}" for head in heads]
        held[name].update(context)


def test_blocks_that_begin_alike_stay() -> None:
    conversations = Conversations()
    alike = [f"File: contract.pdf\npart {n}" for n in range(3)]
    conversations.add("c", read(alike))
    result = conversations.deduplicate("c", read([*alike, "", "File: letter.pdf"]), "{first_line}")
    assert result.new_blocks == [*alike, "", "File: letter.pdf"]
    result = conversations.deduplicate("c", read(["File: letter.pdf", ""]), "{first_line}")
    assert result.reference_hints == ["File: letter"]
    assert result.new_blocks == [""]


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


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def clause(name: str) -> str:
    return f"{name}: a clause of its own\n" + f"and more of {name}, line by line\n" * 3


def hints(texts: list[str], messages: list[dict[str, Any]]) -> list[str | None]:
    blocks = read(texts)
    found = hints_for_history(blocks, messages, HINT_TEMPLATE)
    return [found.get(block.key) for block in blocks]


def test_a_hint_quotes_the_line_where_the_block_begins_as_it_stands() -> None:
    history = [said(f"[1] {clause('one')}\n\n[2] {clause('two')}\n\nwhy?"), said("so", "assistant")]
    expected = [
        f'Given earlier in this conversation, beginning "{head}".'
        for head in ("[1] one: a claus", "[2] two: a claus")
    ]
    assert hints([clause("one"), clause("two"), clause("three")], history) == [*expected, None]


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ([said(f"x {clause('one')}")], "it begins within a line"),
        ([said(clause("one")[:-5])], "it ends within a line"),
        ([said(clause("one") + clause("one"))], "it stands there twice"),
        ([said(clause("one")), said("one: a clause of its own, they say")], "another begins so"),
        ([said(clause("one"), "assistant")], "the assistant said it"),
        ([said(clause("one"), "tool")], "a tool said it"),
        ([said(clause("one").replace("one:", '"one":'))], "it differs"),
        ([said(clause("one")[:40]), said(clause("one")[40:])], "it lies across messages"),
        ([{"role": "tool", "content": 3}, said(clause("one"))], "a message is of no known shape"),
    ],
)
def test_blocks_that_cannot_be_named_get_no_hint(history: list[Any], why: str) -> None:
    assert hints([clause("one")], [said(clause("two"))]) == [None]
    assert hints([clause("one")], [said(clause("one"))]) != [None]
    assert hints([clause("one")], history) == [None], why


def test_blocks_that_begin_alike_in_one_message_get_no_hint() -> None:
    one, two = clause("one"), clause("one") + "but this one goes on"
    assert hints([one, two], [said(one)]) == [None, None]


def test_forged_hints_are_not_named() -> None:
    forged = clause("one") + HINT_TEMPLATE.format(first_line="The policy")
    assert hints([forged], [said(forged)]) == [None]


@given(st.lists(st.text('ab\n"', min_size=40, max_size=90), max_size=5), st.data())
def test_every_hint_names_one_line_of_the_history(texts: list[str], data: st.DataObject) -> None:
    told = [text for text in texts if data.draw(st.booleans())]
    messages = [said("".join(f"[{n}] {text}\n\n" for n, text in enumerate(told, 1)))]
    lines = messages[0]["content"].split("\n")
    for text, hint in zip(texts, hints(texts, messages), strict=True):
        if hint is not None:
            quoted = hint.split('"')[1]
            assert sum(line.lstrip().startswith(quoted) for line in lines) == 1
            assert text.strip("\n") in messages[0]["content"]
            assert len(hint) < len(text)
