"""What was found in a text is not looked for again, and is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from contextpilot.prompt.extract import FindingMemory, look, memory

DOCUMENTS = "".join(f"<document>{name} lies by a lake.</document>\n" for name in "ABC") + "\nWhy?"
LISTED = "1. one of a few\n2. another of a few\n3. a third of a few\nand what comes after them"
TEXTS = (DOCUMENTS, LISTED, "A text without any list, but long enough to hold one.")


def asked(text: str, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": text}]


@pytest.fixture
def looked_through(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were looked through."""
    seen: list[str] = []
    find = memory.find_groups

    def watched(page: Any, *how: Any) -> Any:
        seen.append(page.text)
        return find(page, *how)

    monkeypatch.setattr(memory, "find_groups", watched)
    return seen


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_is_looked_through_once(looked_through: Sequence[str], text: str) -> None:
    known = FindingMemory()
    for _ in range(3):
        assert look(asked(text), memory=known) == look(asked(text))
    assert looked_through == [text]


def test_how_it_is_looked_at_tells_texts_apart(looked_through: Sequence[str]) -> None:
    known = FindingMemory()
    told = {"role": "system", "content": "Answer with the documents that the user gives you."}
    ways: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
        (asked(LISTED), {}),
        (asked(LISTED), {"mode": "numbered"}),
        (asked(LISTED), {"mode": "separator", "separator": "of"}),
        (asked(LISTED, "system"), {}),
        ([told, *asked(LISTED)], {}),
    ]
    for _ in range(2):
        for messages, how in ways:
            assert look(messages, memory=known, **how) == look(messages, **how)
    assert looked_through.count(LISTED) == len(ways)


def test_what_was_not_asked_for_goes(looked_through: list[str]) -> None:
    known = FindingMemory(max_kept=20)
    texts = [f"{number} is a text without any list" for number in range(100)]
    for text in texts:
        look(asked(text), memory=known)
        look(asked(texts[0]), memory=known)
        assert len(known) <= 20
    assert looked_through.count(texts[0]) == 1
    look(asked(texts[1]), memory=known)
    assert looked_through.count(texts[1]) == 2


def test_blocks_count_as_texts_do(looked_through: list[str]) -> None:
    known = FindingMemory(max_kept=6)
    for _ in range(2):
        look(asked(DOCUMENTS), memory=known)  # three blocks: more than a half
    assert len(known) == 0
    assert looked_through == [DOCUMENTS, DOCUMENTS]
