"""A label never leaves its block: lists whose labels close a block, or that have headings, stay."""

from __future__ import annotations

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
