"""The check of reordered documents sees labels that left their contents, and what was lost."""

from __future__ import annotations

from typing import Any

import pytest
from corpus_cases import Case, Item
from corpus_checks import label_problem

pytestmark = pytest.mark.slow

ITEMS = [Item(n, f"Title {n}", f"The text of document {name}.") for n, name in enumerate("abc")]
SPEC = {
    "as": "user",
    "head": "Documents:\n",
    "each": "[$n] $title\n$text",
    "tail": "\n\nWhich is right?",
}
CASE = Case("f", "n", "must_find", "numbered", "s", ITEMS, "q", SPEC)
NOTE = "\n\nThe original numbers differ: 1 is 3, 2-3 are 1-2."


def _body(*rows: str, note: str = "", head: str = "Documents:\n") -> dict[str, Any]:
    text = head + "\n".join(rows) + note + "\n\nWhich is right?"
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def _row(number: int, item: Item, title: str | None = None) -> str:
    return f"[{number}] {title or item.title}\n{item.text}"


A, B, C = ITEMS
SENT = CASE.render(ITEMS)


@pytest.mark.parametrize(
    "got",
    [
        SENT,
        _body(_row(1, C), _row(2, A), _row(3, B), note=NOTE),  # renumbered, and told
        _body(_row(3, C), _row(1, A), _row(2, B)),  # numbers went along
        _body(_row(3, C), _row(1, A), _row(2, B), note="\n\nBy importance: 2,3,1."),
    ],
)
def test_what_is_right(got: dict[str, Any]) -> None:
    assert label_problem(CASE, SENT, got) == ""


@pytest.mark.parametrize(
    "got",
    [
        _body(_row(1, C), _row(2, A), _row(3, B)),  # renumbered, and not told
        _body(_row(1, C), _row(2, A), _row(3, B), note="\n\nDiffers: 1 is 2, 2-3 are 1-2."),
        _body(_row(1, A, "Title 1"), _row(2, B, "Title 0"), _row(3, C)),  # titles swapped
        _body(_row(1, A), _row(2, B)),  # lost
        _body(_row(1, A), _row(2, B), _row(3, C), _row(3, C)),  # twice
        _body(_row(1, A), _row(2, B), _row(3, C), head="Sources:\n"),
        _body(_row(1, A), "and", _row(2, B), _row(3, C), "or"),
        {"model": "m", "messages": [*SENT["messages"], {"role": "user", "content": "more"}]},
    ],
)
def test_what_is_wrong(got: dict[str, Any]) -> None:
    assert label_problem(CASE, SENT, got) != ""


def test_parts_that_lost_their_title() -> None:
    def body(*titles: str) -> dict[str, Any]:
        parts = [
            {"type": "document", "title": title, "source": {"data": item.text}}
            for title, item in zip(titles, ITEMS, strict=True)
        ]
        return {"messages": [{"role": "user", "content": parts}]}

    case = Case("f", "n", "must_find", "parts", "s", ITEMS, "q", {"as": "parts", "each": ""})
    sent = body("x", "y", "z")
    moved = {"messages": [{"role": "user", "content": sent["messages"][0]["content"][::-1]}]}
    assert label_problem(case, sent, moved) == ""
    assert label_problem(case, sent, body("y", "x", "z")) != ""
