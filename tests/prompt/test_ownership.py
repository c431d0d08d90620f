"""A label never leaves its block: lists whose labels close a block, or that have headings, stay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from contextpilot.prompt.extract.look import Looked, look

TEXTS = (
    "The ferry that replaces the bridge carries forty cars and needs eleven minutes to cross.",
    "The tram company lost a third of its passengers, because the strike lasted six weeks.",
    "The river port was dug in 1872 and took ships of nine metres until the silt came back.",
)
NAMES = ("ferry", "tram", "port")
HEAD = "Answer with the retrieved documents below.\n\n"
ASKED = "\n\nQuestion: What does the ferry carry?"


def _found_by_tool(text: str) -> list[dict[str, Any]]:
    function = {"name": "search_docs", "arguments": '{"query": "ferry"}'}
    call = {"id": "c", "type": "function", "function": function}
    return [
        {"role": "user", "content": "What does the ferry carry?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": text},
    ]


def _both(blocks: Sequence[str], between: str) -> list[Looked]:
    text = between.join(blocks)
    prompt = [{"role": "user", "content": HEAD + text + ASKED}]
    return [look(prompt), look(_found_by_tool(text))]


@pytest.mark.parametrize("label", ["[{n}]", "Document {n}:", "[Source: {name}.pdf]", "Source {n}"])
@pytest.mark.parametrize("between", ["\n\n", "\n", "\n\n\n"])
def test_labels_that_close_a_block_keep_the_list(label: str, between: str) -> None:
    labels = [label.format(n=n, name=name) for n, name in enumerate(NAMES, 1)]
    blocks = [f"{text}\n{mark}" for text, mark in zip(TEXTS, labels, strict=True)]
    for looked in _both(blocks, between):
        assert looked.extraction is None


@pytest.mark.parametrize("label", ["[{n}]", "Document {n}:", "[Source: {name}.pdf]"])
@pytest.mark.parametrize("after", ["\n", " ", "\n\n"])
def test_labels_that_open_a_block_move_with_it(label: str, after: str) -> None:
    labels = [label.format(n=n, name=name) for n, name in enumerate(NAMES, 1)]
    blocks = [f"{mark}{after}{text}" for text, mark in zip(TEXTS, labels, strict=True)]
    for looked in _both(blocks, "\n\n"):
        assert looked.extraction is not None


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_headings_above_fields_keep_the_list(between: str) -> None:
    """Else each block would take the heading of the next one along."""
    blocks = [
        f"{name} guide\nContent: {text}\nSource: https://a.example/{name}"
        for name, text in zip(NAMES, TEXTS, strict=True)
    ]
    for looked in _both(blocks, between):
        assert looked.extraction is None


def test_numbers_above_fields_go_along() -> None:
    blocks = [
        f"Result {n}\nContent: {text}\nMetadata: {{'id': '{n}'}}" for n, text in enumerate(TEXTS, 1)
    ]
    looked = look(_found_by_tool("Found 3 chunks:\n" + "\n".join(blocks) + "\nEND of results.\n"))
    assert looked.extraction is not None
    for group in looked.extraction.groups:
        assert [text.count("Content:") for text in group.texts] == [1] * len(group.texts)


def test_fields_that_are_not_known_stay_with_their_block() -> None:
    """The first field of each block has a name that says nothing: it is no introduction."""
    blocks = [
        f"Shelf mark: {name}-{n}\nSource: https://a.example/{name}\nText: {text}"
        for n, (name, text) in enumerate(zip(NAMES, TEXTS, strict=True))
    ]
    for looked in _both(blocks, "\n\n"):
        for group in looked.extraction.groups if looked.extraction else ():
            assert all(text.startswith("Shelf mark") for text in group.texts)


@pytest.mark.parametrize("shape", ["{name}\n---\n{text}", "{text}\n---\n{name}"])
@pytest.mark.parametrize("name", ["The {n} of the valley, an overview", "Source: https://{n}.a"])
def test_names_between_rules_of_their_own_keep_the_list(shape: str, name: str) -> None:
    blocks = [
        shape.format(name=name.format(n=n * 9), text=text)
        for n, text in zip(NAMES, TEXTS, strict=True)
    ]
    for looked in _both(blocks, "\n---\n"):
        assert looked.extraction is None


@pytest.mark.parametrize(
    ("beside", "moves"),
    [
        ({}, True),
        ({"query": "ferry", "total": 3, "took": 0.2}, True),
        ({"images": [], "next": None}, True),
        ({"scores": [0.9, 0.8, 0.7]}, False),
        ({"ranking": [2, 0, 1]}, False),
        ({"best_index": 2}, False),
        ({"meta": {"selected": 1}}, True),  # of something else
        ({"selected": 1}, False),
    ],
)
def test_what_stands_beside_rows_may_count_them(beside: dict[str, Any], moves: bool) -> None:
    rows = [
        {"title": name, "url": f"https://{name}.example", "content": text}
        for name, text in zip(NAMES, TEXTS, strict=True)
    ]
    for body in ({**beside, "results": rows}, {"data": {"results": rows, **beside}}):
        looked = look(_found_by_tool(json.dumps(body)))
        assert (looked.extraction is not None) is moves


def test_what_is_indented_stays_under_its_memory() -> None:
    memories = [
        f"- The user knows the {name}\n  - {text}" for name, text in zip(NAMES, TEXTS, strict=True)
    ]
    looked = look([{"role": "user", "content": "User memories:\n" + "\n".join(memories) + ASKED}])
    assert looked.extraction is not None
    (group,) = looked.extraction.groups
    assert [text.count("\n  - ") for text in group.texts] == [1, 1, 1]


@pytest.mark.parametrize("names", ["Titles: {}; {}; {}", "Files: {}.pdf, {}.pdf, {}.pdf"])
@pytest.mark.parametrize("before", [True, False])
def test_a_list_of_names_beside_documents_counts_them(names: str, before: bool) -> None:
    documents = "\n".join(f"<document>\n{text}\n</document>" for text in TEXTS)
    parts = [names.format(*NAMES), f"<documents>\n{documents}\n</documents>"]
    text = "\n\n".join(parts if before else parts[::-1])
    assert look([{"role": "user", "content": text + ASKED}]).extraction is None
    assert look([{"role": "user", "content": documents + ASKED}]).extraction is not None


def test_a_header_with_a_value_for_each_block_counts_them() -> None:
    hits = "\n---\n".join(TEXTS)
    assert look(_found_by_tool(f"scores: 0.9, 0.8, 0.7\n\n{hits}")).extraction is None
    assert look(_found_by_tool(hits)).extraction is not None


@pytest.mark.parametrize(("sort", "moves"), [("date", False), ("relevance", True), ("", True)])
def test_rows_that_are_sorted_otherwise_than_by_relevance_stay(sort: str, moves: bool) -> None:
    rows = [{"url": f"https://{n}.a", "content": t} for n, t in zip(NAMES, TEXTS, strict=True)]
    told = _found_by_tool(json.dumps({"sort_by": sort, "results": rows}))
    asked = _found_by_tool(json.dumps({"results": rows}))
    arguments = json.dumps({"query": "ferry", "sort_by": sort})
    asked[1]["tool_calls"][0]["function"]["arguments"] = arguments
    for messages in (told, asked):
        assert (look(messages).extraction is not None) is moves


@pytest.mark.parametrize(
    ("score", "texts", "moves"),
    [("similarity", TEXTS, True), ("score", TEXTS, True), ("score", NAMES, False)],
)
def test_scored_names_are_texts_where_they_are_long(
    score: str, texts: Sequence[str], moves: bool
) -> None:
    rows = [{"name": text, score: 0.9 - n / 10} for n, text in enumerate(texts)]
    assert (look(_found_by_tool(json.dumps(rows))).extraction is not None) is moves
