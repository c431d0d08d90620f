"""Which groups of blocks a text holds, by mode and by whose text it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from contextpilot.prompt.extract.group import Found, Span
from contextpilot.prompt.extract.numbered import find_numbered
from contextpilot.prompt.extract.places import Role
from contextpilot.prompt.extract.rows import find_rows
from contextpilot.prompt.extract.sections import find_markdown, find_separated
from contextpilot.prompt.extract.tags import DOCUMENT_TAGS, find_tagged, find_wrapped

_Find: TypeAlias = Callable[[Span, bool], "Found | None"]


def find_groups(text: str, role: Role, mode: str, separator: str | None = None) -> list[Found]:
    """Return the groups of a text, in order, none overlapping another."""
    if mode == "parts":
        return []
    if mode in ("auto", "xml"):
        tagged = find_tagged(text, DOCUMENT_TAGS if mode == "auto" else None)
        if tagged or mode == "xml":
            return tagged
    find = _auto(text, role) if mode == "auto" else _one(text, mode, separator)
    wrapped = find_wrapped(text)
    regions = [(span, True) for span in wrapped] or [(Span(0, len(text)), False)]
    return [found for span, closed in regions if (found := find(span, closed)) is not None]


def _auto(text: str, role: Role) -> _Find:
    def candidates(region: Span, closed: bool) -> Iterator[Found | None]:
        if closed or role == "tool":
            yield find_rows(text, region)
        yield find_numbered(text, region, closed=closed, auto=True)
        if closed or role == "tool":
            yield find_separated(text, region, closed=True, auto=True)

    return lambda region, closed: next(filter(None, candidates(region, closed)), None)


def _one(text: str, mode: str, separator: str | None) -> _Find:
    def find(region: Span, closed: bool) -> Found | None:
        if mode == "json":
            return find_rows(text, region, embedded=True)
        if mode == "markdown":
            return find_markdown(text, region, closed=closed)
        if mode == "separator":
            return find_separated(text, region, closed=closed, auto=False, separator=separator)
        return find_numbered(text, region, closed=closed, auto=False)

    return find
