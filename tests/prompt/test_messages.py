"""Blocks to chat messages."""

# ruff: noqa: RUF005 - list operations are what is tested

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
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


# -- ids through list operations -------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "be brief"}
ANSWER = {"role": "assistant", "content": "an answer"}
LATER = {"role": "user", "content": "another question"}


def planned() -> Messages:
    user = {"role": "user", "content": "[1] a block\n\nthe question"}
    return Messages([SYSTEM, user], request_id="r", order=[0], hinted=[2])


KEPT: dict[str, Callable[[Messages], Any]] = {
    "system + messages": lambda m: [SYSTEM] + m,
    "history + messages": lambda m: [LATER, ANSWER] + m,
    "messages + prefill": lambda m: m + [ANSWER],
    "both": lambda m: [SYSTEM] + m + [],
    "slice": lambda m: m[:],
    "without system": lambda m: m[1:],
    "last": lambda m: m[-1:],
    "step": lambda m: m[::-1][::-1],
    "copy": lambda m: m.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "times one": lambda m: m * 1,
    "one times": lambda m: 1 * m,
    "there and back": lambda m: m[:-1] + m[-1:],
}
LOST: dict[str, Callable[[Messages], Any]] = {
    "without the planned one": lambda m: m[:-1],
    "empty": lambda m: m[:0],
    "later turn": lambda m: m + [ANSWER, LATER],
    "twice": lambda m: m * 2,
    "added to itself": lambda m: m + m,
    "never": lambda m: m * 0,
    "reversed away": lambda m: (m + [LATER])[::1],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_still_is_the_planned_prompt_keeps_its_id(name: str) -> None:
    made = KEPT[name](planned())
    assert isinstance(made, Messages)
    assert (made.request_id, made.plan_id, made.order, made.hinted) == ("r", "r", (0,), (2,))


@pytest.mark.parametrize("name", LOST)
def test_what_is_another_prompt_has_no_id_but_knows_its_plan(name: str) -> None:
    made = LOST[name](planned())
    assert isinstance(made, Messages)
    assert (made.request_id, made.plan_id) == ("", "r")


def test_operations_on_plain_lists_stay_as_they_are() -> None:
    messages = planned()
    assert messages[0] == SYSTEM
    assert [SYSTEM] + messages == [SYSTEM, *messages]
    assert messages + [ANSWER] == [*messages, ANSWER]
    assert messages[::-1] == list(messages)[::-1]
    assert messages * 2 == list(messages) * 2
    with pytest.raises(TypeError, match="tuple"):
        _ = (SYSTEM,) + messages  # type: ignore[operator]
    with pytest.raises(TypeError, match="tuple"):
        _ = messages + (SYSTEM,)  # type: ignore[operator]
    with pytest.raises(IndexError):
        _ = messages[5]


def test_a_conversation_that_goes_on_in_place_loses_and_regains_the_id() -> None:
    messages = planned()
    messages += [ANSWER]
    assert messages.request_id == "r"
    messages.append(LATER)
    assert messages.request_id == ""
    del messages[-1]
    assert messages.request_id == "r"
    messages[1]["content"] += "\nAnswer briefly."
    assert messages.request_id == "r"
    messages[1]["content"] = [
        {"type": "text", "text": "[1] a block\n\nthe question"},
        {"type": "image_url", "image_url": {"url": "data:"}},
    ]
    assert messages.request_id == "r"
    messages[1]["content"] = "something else"
    assert messages.request_id == ""
    messages.clear()
    assert (messages.request_id, messages.plan_id) == ("", "r")


def test_messages_that_are_objects_count_as_turns() -> None:
    class Turn:
        role = "user"
        content = "another question"

    assert (planned() + [Turn()]).request_id == ""
