"""What an engine is asked for the tokens of a request, of every API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextpilot.engines.tokenize import tokenize_body

USER = {"role": "user", "content": "why?"}
PART = {"type": "text", "text": "why?"}
CHAT = [{"role": "system", "content": "Be brief."}, USER]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("messages", {"system": "Be brief.", "messages": [USER]}),
        (
            "messages",
            {
                "system": [
                    {"type": "text", "text": "x-anthropic-billing-header: 12"},
                    {"type": "text", "text": "Be "},
                    {"type": "text", "text": "brief.", "cache_control": {"type": "ephemeral"}},
                ],
                "messages": [{"role": "user", "content": [PART]}],
            },
        ),
        ("responses", {"instructions": "Be brief.", "input": "why?"}),
        (
            "responses",
            {
                "instructions": "Be brief.",
                "input": [
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "why?"}],
                    }
                ],
            },
        ),
    ],
    ids=["messages", "messages in parts", "responses", "responses in parts"],
)
def test_other_apis_are_asked_as_a_chat(api: str, body: dict[str, Any]) -> None:
    asked = tokenize_body(api, {"model": "m", "max_tokens": 3, **body})
    assert asked == {"model": "m", "messages": CHAT}


def test_several_texts_stay_apart() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "citations": None}]
    asked = tokenize_body("messages", {"messages": [{"role": "user", "content": parts}]})
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert asked == {"messages": [{"role": "user", "content": texts}]}


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("messages", {"messages": [USER], "tools": [{"name": "find"}]}),
        ("messages", {"messages": [USER], "thinking": {"type": "enabled"}}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        ("messages", {"messages": [USER, {"role": "assistant", "content": "Because"}]}),
        ("messages", {"messages": []}),
        ("responses", {"input": "why?", "previous_response_id": "r"}),
        ("responses", {"input": "why?", "reasoning": {"effort": "low"}}),
        ("responses", {"input": [{"type": "function_call_output", "output": "x"}]}),
        ("embeddings", {"input": "why?"}),
    ],
    ids=["tools", "thinking", "image", "begun", "none", "goes on", "reasoning", "call", "other"],
)
def test_what_is_more_than_texts_is_not_asked_for(api: str, body: dict[str, Any]) -> None:
    assert tokenize_body(api, body) is None


_keys = st.sampled_from(["type", "text", "role", "content", "system", "messages", "input"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(["messages", "responses", "chat"]), st.dictionaries(_keys, _json))
def test_whatever_a_client_sends_is_no_error(api: str, body: dict[str, Any]) -> None:
    asked = tokenize_body(api, body)
    assert asked is None or asked["messages"] is not None
