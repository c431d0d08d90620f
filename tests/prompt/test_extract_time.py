"""Finding blocks takes time in proportion to the text, whatever the text."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hard_texts import HARD, messages_of, worked

from contextpilot.prompt.extract import asks, look
from contextpilot.prompt.extract.group import MAX_GROUPS, MAX_PIECES
from contextpilot.prompt.extract.look import MAX_REQUEST_GROUPS

SIZE = 1 << 14
TIMES = 4
SLACK = 2.5
"""Quadratic work grows by 4 times what is linear."""
_ROUNDS = 5
_SHORT_S = 0.02


def num_calls(messages: list[Any]) -> int:
    """The calls of functions, ours and built in, that extraction makes."""
    calls = 0
    asks._read.cache_clear()

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        worked(messages)
    finally:
        sys.setprofile(None)
    return calls


def processor_s(messages: list[Any]) -> float:
    """The processor time that extraction takes, at best."""
    times = []
    for _ in range(_ROUNDS):
        asks._read.cache_clear()
        started = time.process_time()
        worked(messages)
        times.append(time.process_time() - started)
    return min(times)


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_work_grows_no_faster_than_the_text(name: str) -> None:
    small, large = HARD[name](SIZE), HARD[name](TIMES * SIZE)
    assert num_calls(large) <= SLACK * TIMES * num_calls(small) + 1000
    one, more = processor_s(small), processor_s(large)
    assert more <= max(SLACK * TIMES * one, _SHORT_S)  # a ratio: regular expressions make no calls


def test_more_lists_than_a_prompt_has_stay() -> None:
    pair = "<doc>one document</doc><doc>another document</doc> and? "
    for times, is_found in ((MAX_GROUPS, True), (MAX_GROUPS + 1, False)):
        looked = look(messages_of(pair * times, "user"))
        assert (looked.extraction is not None) is is_found
        assert [one.code for one in looked.left] == ([] if is_found else ["too-many"])


def test_a_list_of_more_blocks_than_a_prompt_has_stays() -> None:
    for times, is_found in ((MAX_PIECES, True), (MAX_PIECES + 1, False)):
        text = "".join(f'<doc index="{i}">some text</doc>' for i in range(1, times + 1))
        looked = look(messages_of(text, "user"))
        assert (looked.extraction is not None) is is_found


def test_only_the_first_lists_of_a_very_long_conversation_are_planned() -> None:
    turn = messages_of("<doc>one document</doc><doc>another document</doc>", "user")
    looked = look(turn * (MAX_REQUEST_GROUPS + 9))
    assert looked.extraction is not None
    assert len(looked.extraction.groups) == MAX_REQUEST_GROUPS
    looked = look(turn * 20 * MAX_REQUEST_GROUPS)  # each list looks at what all messages say
    assert looked.extraction is not None
    assert len(looked.extraction.groups) < MAX_REQUEST_GROUPS
