"""System prompts arrive as they were written: alone, in conversations, and seen before."""

from __future__ import annotations

import pytest
from corpus_run import prompt_problem, proxy
from known import KNOWN
from system_prompts import system_prompts

pytestmark = pytest.mark.slow

PROMPTS = list(system_prompts())


def test_there_are_many() -> None:
    assert len({prompt.text for prompt in PROMPTS}) == len(PROMPTS) >= 100
    assert all(prompt.text != prompt.turned for prompt in PROMPTS)


def test_no_system_prompt_is_altered_that_is_not_known_to() -> None:
    with proxy() as client:
        failed = {prompt.name: prompt_problem(prompt, client) for prompt in PROMPTS}
    assert {name: why for name, why in failed.items() if why and name not in KNOWN} == {}
