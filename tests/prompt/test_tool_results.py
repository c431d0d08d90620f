"""Whatever a file holds that a tool read, or a command printed: it arrives whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from contextpilot.prompt.extract import look

ROWS = [
    ("oiler", "The oiler of the north pump was empty for weeks, so that its bearing ran dry."),
    ("belt", "Another belt lies in the cupboard; order a new one whenever the last is taken."),
    ("valve", "Valve seven leaks as long as it is cold, and closes after an hour of running."),
    ("motor", "The motor that came in spring draws two ampere less than the one before it did."),
]


def written(each: str, between: str = "\n\n", head: str = "", tail: str = "") -> str:
    rows = [
        each.replace("$name", name).replace("$text", text).replace("$json", json.dumps(text))
        for name, text in ROWS
    ]
    return head + between.join(rows) + tail


FILES = {
    "a prompt in a file": written(
        "<doc>$text</doc>", "\n", "Use the following documents:\n", "\n\nQuestion: {question}"
    ),
    "documents as XML": written("<document>$text</document>", "\n", "<documents>", "</documents>"),
    "hits that were saved": written(
        '{"title": "$name", "score": 0.5, "content": $json}', ",", '{"results": [', "]}"
    ),
    "a list of links": written("Title: $name\nURL: https://$name.example\nContent: $text"),
    "notes under a heading": written("- $text", "\n", "Relevant memories:\n"),
    "sections and rules": written("# $name\n\n$text", "\n\n---\n\n"),
    "a bibliography": "".join(f"[{n}] {text}\n\n" for n, (_, text) in enumerate(ROWS, start=1)),
    "documents of YAML": written("kind: Note\nname: $name\ntext: $json", "\n---\n"),
    "a feed": written("<item><title>$name</title>$text</item>", "\n", "<rss>", "</rss>"),
}
CALLS: list[tuple[str, Mapping[str, Any]]] = [
    ("Read", {"file_path": "/srv/notes"}),
    ("mcp__files__read_text", {"path": "notes"}),
    ("bash", {"command": "cat notes"}),
    ("terminal", {"command": "python retrieve.py pump"}),
    ("shell", {"command": ["bash", "-lc", "jq . search_results.json"]}),
    ("fetch", {"url": "https://pumps.example/notes"}),
    ("http_get", {"url": "https://pumps.example/feed.xml"}),
    ("go_to_definition", {"symbol": "Pump"}),
    ("unzip", {"archive": "notes.zip"}),
    ("inspect", {}),
]


def as_chat(name: str, arguments: Mapping[str, Any], text: str) -> list[Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": "c", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": text},
    ]


def as_blocks(name: str, arguments: Mapping[str, Any], text: str) -> list[Any]:
    use = {"type": "tool_use", "id": "c", "name": name, "input": arguments}
    result = {"type": "tool_result", "tool_use_id": "c", "content": text}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]


def as_items(name: str, arguments: Mapping[str, Any], text: str) -> list[Any]:
    call = {"type": "function_call", "call_id": "c", "name": name}
    return [
        {**call, "arguments": json.dumps(arguments)},
        {"type": "function_call_output", "call_id": "c", "output": text},
    ]


@pytest.mark.parametrize("shape", [as_chat, as_blocks, as_items])
@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_what_a_tool_read_stays(
    shape: Callable[..., list[Any]], name: str, arguments: Mapping[str, Any]
) -> None:
    ask = {"role": "user", "content": "What do the notes say about the pump and its belt?"}
    moved = [
        file
        for file, text in FILES.items()
        if look([ask, *shape(name, arguments, text)]).extraction is not None
    ]
    known = ["hits that were saved"] if name in ("go_to_definition", "unzip", "inspect") else []
    assert [file for file in moved if file not in known] == []


def test_a_search_finds_what_a_file_may_hold_too() -> None:
    ask = {"role": "user", "content": "What do the notes say about the pump and its belt?"}
    for file in ("documents as XML", "hits that were saved", "a list of links"):
        messages = [ask, *as_chat("web_search", {"query": "pump belt"}, FILES[file])]
        assert look(messages).extraction is not None, file
