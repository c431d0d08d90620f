"""Whether a prompt speaks of its documents by place or number, or wants answers in their order.

Then they stay: a question for "document 3" or "the last one" counts them as they were given. What
only shows how to cite ("like [1]") does not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from contextpilot.prompt.extract.ordinals import (
    COMPARED_HAN,
    COMPARING,
    ENGLISH_POSITIONS,
    FOREIGN_POSITIONS,
    NUMBER_WORDS,
    NUMBERED_HAN,
    NUMBERED_NOUNS,
    ORDER_ASKED,
)

_FLAGS = re.IGNORECASE
_POSITION = re.compile("|".join((*ENGLISH_POSITIONS, *FOREIGN_POSITIONS)), _FLAGS)
_ORDER = re.compile("|".join(ORDER_ASKED), _FLAGS)
_MENTION = re.compile(
    rf"\[(\d{{1,4}})\](?!\()|\b{NUMBERED_NOUNS}[ \t]*(?:#|n[o°º]\.?[ \t]*|nr\.?[ \t]*|"
    rf"number[ \t]+)?"
    rf"\[?(\d{{1,4}})\b(?![.,:]\d|[%°]| ?(?:%|years?|pages?|percent|million|words))|{NUMBERED_HAN}|"
    rf"(?:#|\b(?:n[o°º]\.?|number|nummer|num[ée]ro|número|номер|option|link|"
    rf"item)[ \t]?)(\d{{1,3}})\b",
    _FLAGS,
)
_SPELLED = re.compile(
    rf"\b{NUMBERED_NOUNS}(?: number)? {NUMBER_WORDS}\b(?! (?:of|or more|years?|times))", _FLAGS
)
_COMPARED = re.compile(
    rf"(?:\b{COMPARING}\b|{COMPARED_HAN})[^\d\n]{{0,24}}?(\d{{1,3}})\D{{1,9}}?(\d{{1,3}})(?!\d)"
    r"|(?<!\d)(\d{1,3}) ?[とと和与跟과와] ?(\d{1,3})(?!\d)",
    _FLAGS,
)
_EXAMPLE = re.compile(
    r"(?:like|such as|e\.g\.,?|example|format|z\. ?b\.|par exemple|ejemplo|比如|例如|"
    r"如)[^\w\[\]]{0,12}$",
    _FLAGS,
)
_CITING = re.compile(
    r"(?:form|using|use|style|notation|with|as|cite|citations?|wie|comme|como)[^\w\[\]]{0,12}$",
    _FLAGS,
)
"""Before `[1]` alone: "with document 1" speaks of a document."""
_EXAMPLE_CHARS = 32
_CHAIN_CHARS = 6
_MAX_ASKED_CHARS = 1 << 16
"""Longer texts around a list are no question: both ends are read."""


class Asks(NamedTuple):
    """What one text around the blocks asks for."""

    position: bool
    order: bool
    numbers: frozenset[str]
    spelled: bool

    def reason(self, shown: Collection[str]) -> str:
        """Return the rule against moving blocks that show these numbers; "" if there is none."""
        if self.order:
            return "order-asked"
        if self.position:
            return "position-asked"
        return "number-asked" if self.spelled or not self.numbers.isdisjoint(shown) else ""


@lru_cache(maxsize=64)
def read_asks(text: str) -> Asks:
    """Read a text that stands around blocks: a question, an instruction."""
    if len(text) > 2 * _MAX_ASKED_CHARS:
        text = f"{text[:_MAX_ASKED_CHARS]}\n{text[-_MAX_ASKED_CHARS:]}"
    return Asks(
        _POSITION.search(text) is not None,
        _ORDER.search(text) is not None,
        frozenset(_numbers(text)),
        _SPELLED.search(text) is not None,
    )


def _numbers(text: str) -> set[str]:
    """Return the numbers by which a text names documents, other than as examples of citing."""
    found: set[str] = set()
    example_end = -_CHAIN_CHARS - 1
    for mention in _MENTION.finditer(text):
        start = mention.start()
        before = text[max(0, start - _EXAMPLE_CHARS) : start]
        bracket = mention[1] is not None
        is_chained = bracket and start - example_end <= _CHAIN_CHARS
        if is_chained or _EXAMPLE.search(before) or (bracket and _CITING.search(before)):
            example_end = mention.end()
        else:
            found.update(number for number in mention.groups() if number)
    for compared in _COMPARED.finditer(text):
        found.update(number for number in compared.groups() if number)
    return found
