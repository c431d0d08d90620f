"""Which part of a request is what, as the table of `prompt.apis` says."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from contextpilot.prompt.apis.paths import shape_of

TOOLS = [{"type": "function", "function": {"name": "look"}}]
SAID = [{"role": "user", "content": "MESSAGE"}, {"role": "assistant", "content": "ANSWER"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID},
    "/v1/completions": {"prompt": "MESSAGE"},
    "/v1/responses": {"input": SAID, "instructions": "SYSTEM"},
    "/v1/responses/": {"input": "MESSAGE", "instructions": "SYSTEM"},
    "/v1/messages": {"messages": SAID, "system": [{"type": "text", "text": "SYSTEM"}]},
    "/v1/messages/": {"messages": SAID, "system": "SYSTEM"},
}


@pytest.mark.parametrize("path", BODIES)
def test_each_part_stands_where_the_table_says(path: str) -> None:
    shape = shape_of("POST", path)
    assert shape is not None
    body = {"model": "OTHER", "tools": TOOLS, **BODIES[path]}
    given = copy.deepcopy(body)
    parts = {
        "opening": shape.opening(body),
        "turns": shape.turns(body),
        "unsearched": shape.unsearched(body),
        "searched": shape.searched(body),
    }
    where = {
        word: {name for name, messages in parts.items() if word in json.dumps(messages)}
        for word in ("look", "SYSTEM", "MESSAGE", "OTHER")
    }
    has_system = "SYSTEM" in json.dumps(body)
    assert where == {
        "look": {"opening", "unsearched"},
        "SYSTEM": {"opening", "searched"} if has_system else set(),
        "MESSAGE": {"turns", "searched"},
        "OTHER": set(),
    }
    assert shape.with_turns(body, parts["turns"]) == body == given
    assert shape.with_searched(body, parts["searched"]) == body == given


@pytest.mark.parametrize("path", BODIES)
def test_other_words_come_into_their_places(path: str) -> None:
    shape = shape_of("POST", path)
    assert shape is not None
    body = {"tools": TOOLS, **BODIES[path]}
    other = json.loads(json.dumps(shape.searched(body)).replace("SYSTEM", "X").replace("MESS", "Y"))
    written = shape.with_searched(body, other)
    whole = json.dumps(body).replace("SYSTEM", "X").replace("MESS", "Y")
    assert written == json.loads(whole)


def test_a_list_of_prompts_holds_no_messages() -> None:
    shape = shape_of("POST", "/v1/completions")
    assert shape is not None
    assert shape.turns({"prompt": ["one", "two"]}) == []
    assert shape_of("GET", "/v1/completions") is None
    assert shape_of("POST", "/v1/embeddings") is None
