"""Where a prompt leaves the one that it continues."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contextpilot.agents.continuation import Continuations, is_first_prompt, parts_of
from contextpilot.prompt.apis.anthropic import AnthropicMessages
from contextpilot.prompt.apis.openai import Chat

TEXTS = st.text(min_size=1, max_size=8)


def chat(*texts: str, system: str = "Be kind.") -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": [{"role": "system", "content": system}, *turns]}


def noted(*bodies: dict[str, Any]) -> Continuations:
    told = Continuations()
    for body in bodies:
        told.note(parts_of(Chat(), body), is_first_prompt(Chat(), body))
    return told


@given(texts=st.lists(TEXTS, min_size=2, max_size=12))
def test_growing_conversation_continues_each_time(texts: list[str]) -> None:
    told = noted(*(chat(*texts[: end + 1]) for end in range(len(texts))))
    assert (told.continuing, told.breaks) == (len(texts) - 1, [])


@given(texts=st.lists(TEXTS, min_size=4, max_size=9), data=st.data())
def test_change_anywhere_is_found_at_its_place(texts: list[str], data: st.DataObject) -> None:
    before = chat(*texts[:-1])
    at = data.draw(st.integers(0, len(before["messages"]) - 1))
    after = chat(*texts)
    changed = {**after["messages"][at], "content": "something else that was not there"}
    after["messages"][at] = changed
    told = noted(before, after)
    assert told.continuing == 0
    (broken,) = told.breaks
    assert broken.place == (
        "the system prompt"
        if at == 0
        else f"the last message ({changed['role']})"
        if at == len(before["messages"]) - 1
        else f"message {at + 1} ({changed['role']})"
    )


def test_two_conversations_side_by_side_are_told_apart() -> None:
    bodies = []
    for turn in range(1, 6):
        bodies.append(chat(*(f"a{i}" for i in range(turn))))
        bodies.append(chat(*(f"b{i}" for i in range(turn)), system="Name this chat."))
    told = noted(*bodies)
    assert (told.continuing, told.breaks) == (8, [])


def test_first_prompts_of_new_conversations_are_no_breaks() -> None:
    told = noted(chat("one"), chat("two"), chat("three"))
    assert (told.continuing, told.breaks) == (0, [])


def test_clock_in_the_system_prompt_is_named() -> None:
    told = noted(
        chat("a", "b", "c", system="It is 2026-11-26 10:00."),
        chat("a", "b", "c", "d", "e", system="It is 2026-11-26 10:01."),
    )
    (broken,) = told.breaks
    assert broken.place == "the system prompt"
    assert broken.kinds == ("timestamp",)


def test_cache_marks_are_no_text() -> None:
    def body(marked: int, turns: int) -> dict[str, Any]:
        messages = [
            {"role": "user", "content": [{"type": "text", "text": f"t{i}"}]} for i in range(turns)
        ]
        messages[marked]["content"][0]["cache_control"] = {"type": "ephemeral"}  # type: ignore[index]
        return {"system": "Be kind.", "tools": [{"name": "read"}], "messages": messages}

    told = Continuations()
    for turn in range(1, 4):
        told.note(parts_of(AnthropicMessages(), body(turn - 1, turn)), False)
    assert (told.continuing, told.breaks) == (2, [])


def test_many_conversations_are_bounded() -> None:
    told = noted(*(chat(f"question {i}") for i in range(500)), chat("question 1", "a", "b"))
    assert told.continuing == 0, "forgotten by then"
    assert len(told._before) <= 64
