"""Blocks to chat messages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.prompt.messages import (
    Messages,
    check_history,
    message_texts,
    messages_key,
    new_request_id,
    render_blocks,
    render_user,
)

texts = st.lists(st.text(st.characters(), max_size=20), max_size=6)


@given(texts, texts)
def test_a_longer_prompt_begins_with_the_shorter_one(head: list[str], tail: list[str]) -> None:
    assert render_blocks(head + tail).startswith(render_blocks(head))
    assert render_user(head + tail, "", "q").startswith(render_blocks(head))


@given(texts)
def test_every_block_stands_word_for_word_under_its_number(blocks: list[str]) -> None:
    rest = render_user(blocks, "", "the question")
    for number, block in enumerate(blocks, start=1):
        piece = f"[{number}] {block}\n\n"
        assert rest.startswith(piece)
        rest = rest[len(piece) :]
    assert rest == "the question"


def test_the_annotation_stands_between_blocks_and_question() -> None:
    assert render_user(["a"], "ranking", "q") == "[1] a\n\nranking\n\nq"


def test_messages_are_a_plain_list_with_names() -> None:
    messages = Messages([{"role": "user", "content": "q"}], request_id="r", order=[1, 0])
    assert messages == [{"role": "user", "content": "q"}]
    assert (messages.request_id, messages.order, messages.hinted) == ("r", (1, 0), ())


def test_request_ids_delimit_themselves_and_never_repeat() -> None:
    made = {new_request_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"cp-[0-9a-f]{24}", name) for name in made)


def test_texts_of_every_shape_of_content() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "image_url"}, "c"]},
        {"role": "tool"},
    ]
    assert list(message_texts(messages))[:2] == ["a", "b"]


def test_a_history_is_copied() -> None:
    history = [{"role": "user", "content": "a"}]
    copy = check_history(history)
    assert copy == history
    assert copy[0] is not history[0]
    assert check_history(None) == []


@pytest.mark.parametrize(
    ("history", "named"),
    [
        ("text", "history"),
        ({"role": "user"}, "history"),
        (5, "history"),
        ([None], r"history\[0\]"),
        ([{"role": "user"}, {"content": "a"}], r"history\[1\]"),
        ([{"role": 5}], r"history\[0\]"),
        (["hi"], r"history\[0\]"),
    ],
)
def test_a_wrong_history_is_named(history: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        check_history(history)


def test_messages_are_known_by_their_content() -> None:
    one = [{"role": "user", "content": "a"}]
    assert messages_key(one) == messages_key([{"content": "a", "role": "user"}])
    assert messages_key(one) != messages_key([{"role": "user", "content": "b"}])
    assert messages_key([{"role": "user", "content": "\ud800"}])
