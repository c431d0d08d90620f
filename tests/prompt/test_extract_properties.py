"""Whatever the text: nothing raises, nothing is lost or invented, and blocks are found again."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from contextpilot.prompt.extract import (
    LABELS,
    MODES,
    Arrangement,
    Extraction,
    Group,
    extract_blocks,
)

FRAGMENTS = st.sampled_from(
    [
        *("<doc>", "</doc>", '<doc id="1">', "<document index='2'>", "</document>", "<context>"),
        *("</context>", "<documents>", "</documents>", "[1] ", "[2] ", "[3]: ", "1. ", "2) "),
        *("Document 1: ", "Document 2: ", "## Source 1\n", "## B\n", "# A\n", "---\n", "===\n"),
        *(
            "\n",
            "\n\n",
            " ",
            "\t",
            "```",
            "Question: ",
            "why?",
            "Results:\n",
            "word " * 20,
            "é\ud800",
        ),
        *('[{"text": "a"}, {"text": "b"}]', '{"results": [', '{"rank": 1, "content": "x"}', ", "),
        *("]}", "]", "[", "{", "}", '"', "\\", "\0", "\r\n"),
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=8), max_size=40).map("".join)
WORDS = st.text("abcxyz é,.", min_size=1, max_size=30).map(lambda s: f"w7{s}w")
"""With a digit, so that none reads as an instruction ("wa a"): those stay in order."""
BODIES = WORDS.map(lambda s: s + " filler" * 12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "source", "data", "output", "citations", "x"]
            ),
            inner
            | st.sampled_from(
                ["user", "tool", "system", "text", "document", "search_result", "tool_result"]
            ),
            max_size=5,
        )
    ),
    max_leaves=25,
)


def found_in(text: str, role: str, mode: str, labels: str = "stay") -> Extraction | None:
    separator = "\n\n" if mode == "separator" and len(text) % 2 else None
    messages = [{"role": role, "content": text, "name": "search"}]
    return extract_blocks(messages, mode, labels=labels, separator=separator)


@st.composite
def listed(draw: st.DrawFn) -> tuple[str, str]:
    """A mode, and a list of its form between any texts, its blocks of any text."""
    mode = draw(st.sampled_from([mode for mode in MODES if mode not in ("parts", "tool")]))
    bodies = draw(st.lists(TEXTS, min_size=2, max_size=5))
    if mode == "json":
        middle = json.dumps([{"rank": i, "text": body} for i, body in enumerate(bodies, start=1)])
    elif mode in ("markdown", "separator"):
        mark = "\n---\n" if mode == "separator" else "\n# Head\n"
        middle = mark.join(["", *bodies, ""])
    elif mode == "xml":
        middle = "\n".join(f'<item n="{i}">{body}</item>' for i, body in enumerate(bodies))
    else:
        middle = "\n".join(f"[{i}] {body}" for i, body in enumerate(bodies))
    before, after = draw(st.lists(TEXTS, min_size=2, max_size=2))
    return mode, before[:40] + "\n" + middle + draw(st.sampled_from(["", "\n\nQ?"])) + after[:40]


@pytest.mark.slow
@given(
    listed() | st.tuples(st.sampled_from(MODES), TEXTS),
    st.sampled_from(["user", "tool", "system"]),
    st.sampled_from(LABELS),
    st.data(),
)
@settings(max_examples=600, suppress_health_check=list(HealthCheck))
def test_nothing_is_lost_or_invented(
    example: tuple[str, str], role: str, labels: str, data: st.DataObject
) -> None:
    mode, text = example
    found = found_in(text, role, mode, labels)
    assume(found is not None)
    assert found is not None
    same = [Arrangement(range(len(group.texts))) for group in found.groups]
    assert found.arrange(same)[0]["content"] == text
    orders = [data.draw(st.permutations(range(len(group.texts)))) for group in found.groups]
    changed = found.arrange([Arrangement(order) for order in orders])[0]["content"]
    assert Counter(changed) == Counter(text)
    found.head()
    assert found.tail_tokens() >= 0
    check_legend(found, orders[-1])


def check_legend(found: Extraction, order: list[int]) -> None:
    """Check that a legend names the original number of every number shown, and none besides."""
    legend = found.legend(order)
    if not legend:
        return
    assert isinstance(found.last, Group)
    shown = [int(label) for label in found.last.shown]
    told = {number: number for number in shown} if "the others are right" in legend else {}
    entry = r"(\d+)(?:-(\d+))? (?:is|are) (\d+)(?:-(\d+))?(?=[,.])"
    for first, last, original, until in re.findall(entry, legend):
        numbers = range(int(first), int(last or first) + 1)
        originals = range(int(original), int(until or original) + 1)
        told.update(zip(numbers, originals, strict=True))
    assert told == {number: shown[rank] for number, rank in zip(shown, order, strict=True)}


@pytest.mark.slow
@given(st.lists(JSON, max_size=4), st.sampled_from(MODES))
@settings(max_examples=300)
def test_messages_of_any_shape_never_raise(messages: list[Any], mode: str) -> None:
    before = copy.deepcopy(messages)
    found = extract_blocks(messages, mode)
    if found is not None:
        reverse = [range(len(group.texts))[::-1] for group in found.groups]
        found.arrange([Arrangement(order) for order in reverse])
        found.head()
    assert messages == before


def as_xml(bodies: list[str]) -> str:
    inner = "\n".join(f'<doc index="{i}">{body}</doc>' for i, body in enumerate(bodies, start=1))
    return f"Read this:\n<docs>\n{inner}\n</docs>\nWhich?"


def as_numbers(bodies: list[str]) -> str:
    return "\n\n".join(f"[{i}] {b}" for i, b in enumerate(bodies, start=1)) + "\n\nQuestion: what?"


def as_open_numbers(bodies: list[str]) -> str:
    listed = "\n".join(f"Document {i}: {body}" for i, body in enumerate(bodies, start=1))
    return f"{listed}\nDocument {len(bodies) + 1}: the last\n\nIts next lines."


def as_json(bodies: list[str]) -> str:
    return json.dumps({"hits": [{"score": 0.5, "text": body} for body in bodies]})


def as_rules(bodies: list[str]) -> str:
    return "\n---\n".join(bodies)


def as_wrapped_rules(bodies: list[str]) -> str:
    return "<context>\n" + "\n\n====\n\n".join(bodies) + "</context>Why?"


@pytest.mark.parametrize(
    ("written", "role"),
    [
        (as_xml, "user"),
        (as_numbers, "user"),
        (as_open_numbers, "system"),
        (as_json, "tool"),
        (as_rules, "tool"),
        (as_wrapped_rules, "user"),
    ],
)
@given(st.lists(BODIES, min_size=2, max_size=8), st.data())
@settings(max_examples=60)
def test_permuted_blocks_are_found_again(
    written: Any, role: str, bodies: list[str], data: st.DataObject
) -> None:
    text = written(bodies)
    found = found_in(text, role, "auto")
    assert found is not None
    assert found.last.contents == bodies
    order = data.draw(st.permutations(range(len(bodies))))
    changed = found.rebuild(order)[0]["content"]
    assert changed == written([bodies[rank] for rank in order])
    again = found_in(changed, role, "auto")
    assert again is not None
    assert again.texts == [found.texts[rank] for rank in order]
    assert again.head() == found.head()


@given(st.lists(BODIES, min_size=2, max_size=8), st.data())
def test_labels_that_move_take_citations_along(bodies: list[str], data: st.DataObject) -> None:
    found = found_in(as_numbers(bodies), "user", "auto", "move")
    assert found is not None
    assert found.texts == [f"[{i}] {body}" for i, body in enumerate(bodies, start=1)]
    order = data.draw(st.permutations(range(len(bodies))))
    changed = found.rebuild(order)[0]["content"]
    assert all(f"[{i}] {body}" in changed for i, body in enumerate(bodies, start=1))
    assert found.legend(order) == ""
