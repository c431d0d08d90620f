"""`POST /rewrite`: over HTTP as `ContextPilot.rewrite` in Python, turn after turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from servers import Start

from contextpilot import ContextPilot

FACTS = [f"{name} lies by a lake. " + f"In {name} it rains in May. " * 12 for name in "ABCD"]
FILE = "\n".join(f"value_{at} = compute({at * 7919})" for at in range(40))


def ask(*ranks: int) -> dict[str, Any]:
    documents = "".join(f"<document>{FACTS[rank]}</document>\n" for rank in ranks)
    return {"role": "user", "content": f"Use these documents:\n{documents}\nWhere?"}


def reading(number: int, text: str = FILE) -> list[dict[str, Any]]:
    function = {"name": "read_file", "arguments": json.dumps({"path": f"{number}.py"})}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": text},
    ]


def test_a_session_is_rewritten_as_in_python(start: Start) -> None:
    client, pilot = start(), ContextPilot(index_url="")
    options: dict[str, Any] = {"displacement_cost": 0, "min_gain_tokens": 0}
    for first in (ask(0, 1, 2, 3), ask(3, 1, 0, 2)):
        history, sent_before = [first], []
        for turn in range(4):
            reply = client.post("/rewrite", {"messages": history, **options})
            done = pilot.rewrite(history, **options)
            assert reply.status == 200, reply.body
            told = reply.json()
            assert told["messages"] == list(done.messages)
            assert (told["ranks"], told["saved_chars"]) == (list(done.order), done.saved_chars)
            assert told["messages"][: len(sent_before)] == sent_before
            sent_before = told["messages"]
            history += reading(turn)
        assert told["saved_chars"] > len(FILE)
        assert sent_before[2]["content"] == FILE, "a first reading arrives whole"
    assert told["ranks"] != [0, 1, 2, 3]
    assert told["reason"] == ""


def test_all_that_is_given_counts(start: Start) -> None:
    client = start()
    history = [*reading(1), *reading(2)]
    kept = client.post("/rewrite", {"messages": history, "deduplicate": False}).json()
    assert (kept["messages"], kept["reason"]) == (history, "no blocks")
    off = client.post("/rewrite", {"messages": history, "mode": "off"}).json()
    assert (off["messages"], off["reason"]) == (history, "off")
    schema = {"type": "object", "properties": {"document": {"type": "integer"}}}
    named = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    system = [{"type": "text", "text": "Be brief."}]
    tools = [{"name": "read_file", "input_schema": {}}]
    body = {"messages": history, "system": system, "tools": tools, "namespace": "n", **named}
    told = client.post("/rewrite", body).json()
    assert told["system"] == system
    assert told["saved_chars"] > 0
    recorded = client.get("/requests").json()["requests"]
    assert [one["request_id"] for one in recorded] == [told["request_id"]]
    assert recorded[0]["api"] == "rewrite"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"text": "hello"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "a"}], "mode": "backwards"}, "mode"),
        ({"messages": [{"role": "user", "content": "a"}], "scope": "nobody"}, "scope"),
        ({"messages": [], "max_shift": -1}, "max_shift"),
        ({"messages": [], "unknown": 1}, "unknown"),
    ],
)
def test_what_is_wrong_is_named(start: Start, body: dict[str, Any], field: str) -> None:
    reply = start().post("/rewrite", body)
    assert reply.status == 422
    assert field in reply.json()["error"]["message"]


def test_a_large_session_keeps_its_texts(start: Start) -> None:
    """Beyond what is looked through at once, with characters of every width."""
    lines = "\n".join(f"Zeile {at}: \U0001f600 é {at * 31}" for at in range(9000))
    history = [*reading(1, lines), *reading(2, lines)]
    told = start().post("/rewrite", {"messages": history}).json()
    assert told["messages"][1]["content"] == lines
    assert len(told["messages"][3]["content"]) < 300
