"""Schemas of answers that tell documents by their place, and rows within strings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contextpilot.prompt.extract import extract_blocks, look
from contextpilot.prompt.extract.asks import read_asks
from contextpilot.prompt.extract.schemas import (
    _MAX_DEPTH,
    _MAX_PROPERTIES,
    keeps_prompt,
    names_places,
)

NUMBER = {"type": "number"}


def answering(name: str, schema: Any) -> dict[str, Any]:
    properties = {"type": "object", "properties": {"answer": {"type": "string"}, name: schema}}
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": properties}}}


@pytest.mark.parametrize(
    ("name", "kind", "is_place"),
    [
        ("index", "integer", True),
        ("best_index", "number", True),
        ("document_number", "integer", True),
        ("index", "string", False),
        ("indices", "array", True),
        ("scores", "array", True),
        ("scores", "integer", False),
        ("documents", "array", False),
        ("year", "integer", False),
    ],
)
def test_an_answer_may_name_documents_by_their_place(name: str, kind: str, is_place: bool) -> None:
    assert names_places(answering(name, {"type": kind})) is is_place
    assert not names_places({"messages": [], "other": answering(name, {"type": kind})})


@pytest.mark.parametrize(
    ("member", "is_place"),
    [
        ({"guided_regex": r"\[[1-5]\]"}, True),
        ({"guided_choice": ["1", "2", "3"]}, True),
        ({"structured_outputs": {"choice": ["A", "B"]}}, True),
        ({"structured_outputs": {"regex": r"\d"}}, True),
        ({"grammar": "root ::= [1-5]"}, True),
        ({"guided_choice": ["yes", "no"]}, False),
        ({"regex": "(yes|no)"}, False),
        ({"grammar": "root ::= object\n" + "# JSON\n" * 40 + "digit ::= [0-9]"}, False),
        ({"grammar": None, "guided_choice": [3], "structured_outputs": []}, False),
    ],
)
def test_so_may_a_pattern_that_an_answer_has_to_match(
    member: dict[str, Any], is_place: bool
) -> None:
    assert names_places(member) is is_place


@pytest.mark.parametrize(
    ("member", "kept"),
    [
        ({"echo": True}, True),
        ({"prompt_logprobs": 0}, True),
        ({"truncate_prompt_tokens": 512}, True),
        ({"echo": False, "prompt_logprobs": None, "truncate_prompt_tokens": None}, False),
        ({"logprobs": True, "truncation": "auto"}, False),
    ],
)
def test_a_prompt_that_comes_back_or_is_cut_is_kept(member: dict[str, Any], kept: bool) -> None:
    assert keeps_prompt(member) is kept


@pytest.mark.parametrize(("tool", "is_place"), [("select_document", True), ("get_weather", False)])
@pytest.mark.parametrize("nested", [True, False])
def test_so_may_a_tool_that_chooses(tool: str, is_place: bool, nested: bool) -> None:
    function = {"name": tool, "parameters": {"properties": {"index": {"type": "integer"}}}}
    tools = [{"type": "function", "function": function} if nested else function]
    assert names_places({"tools": tools}) is is_place


@pytest.mark.parametrize(
    ("tool", "number", "is_place"),
    [
        ("open_result", "result_index", True),
        ("click", "index", True),
        ("openHit", "hitNumber", True),
        ("fetch", "start_index", False),  # of a page's characters
        ("get_weather", "days", False),
        ("summarize", "index", False),
    ],
)
def test_so_does_a_tool_that_acts_on_one(tool: str, number: str, is_place: bool) -> None:
    function = {"name": tool, "parameters": {"properties": {number: {"type": "integer"}}}}
    assert names_places({"tools": [{"type": "function", "function": function}]}) is is_place


def test_schemas_are_searched_so_far_and_no_further() -> None:
    place: Any = {"properties": {"index": {"type": "integer"}}}
    for depth in range(2 * _MAX_DEPTH):
        assert names_places({"text": place}) is (depth <= _MAX_DEPTH), depth
        place = {"any": place}
    assert names_places({"text": {"anyOf": [{"type": "null"}, {"properties": {"rank": NUMBER}}]}})
    many = {"properties": {f"other_{n}": {} for n in range(_MAX_PROPERTIES)}}
    body = {"text": {"first": {"properties": {"index": {"type": "integer"}}}, "last": many}}
    assert not names_places(body)


ROWS = [
    {"score": score, "content": f"{name} is told of here at some length, as passages are."}
    for name, score in (("Alpha", 0.9), ("Beta", 0.8), ("Gamma", 0.4))
]


def searched(content: Any) -> list[dict[str, Any]]:
    function = {"name": "web_search", "arguments": '{"query": "x"}'}
    call = {"id": "c1", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": content},
    ]


@pytest.mark.parametrize("rows", [ROWS, {"results": ROWS}])
def test_rows_in_a_string_within_json_move_and_the_string_stays_one(rows: Any) -> None:
    content = json.dumps({"ok": True, "result": json.dumps(rows)})
    found = extract_blocks(searched(content))
    assert found is not None
    assert found.last.contents == [row["content"] for row in ROWS]
    changed = json.loads(found.rebuild([2, 0, 1])[1]["content"])
    moved = json.loads(changed["result"])
    assert (moved if rows is ROWS else moved["results"]) == [ROWS[2], ROWS[0], ROWS[1]]
    assert changed["ok"] is True


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"one": json.dumps(ROWS), "two": json.dumps(ROWS)}),
        json.dumps({"result": json.dumps(ROWS[:1])}),
        json.dumps({"result": "see [1] and {2}: " + "nothing that is JSON " * 9}),
    ],
)
def test_rows_in_several_strings_or_none_stay(content: str) -> None:
    assert look(searched(content)).extraction is None


def test_a_number_in_an_example_of_citing_asks_for_no_document() -> None:
    said = "Write where it stands. For example, a sentence of some length that ends so [3]"
    assert not read_asks(said).numbers
    assert read_asks(said.replace("For example, a", "A")).numbers == {"3"}
    assert read_asks("What does the report say about the pump in [3]?").numbers
