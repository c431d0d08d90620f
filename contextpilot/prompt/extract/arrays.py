"""Which rows a JSON text holds: the one array of objects in it, and what stands beside that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from contextpilot.prompt.extract.group import MAX_PIECES, Span
from contextpilot.prompt.extract.json_spans import Member, array_at, object_at, skip_space
from contextpilot.prompt.extract.vocabulary import QUERY_FIELDS, SEQUENCE_HOLDERS

_PLACE_KEY = re.compile(
    r"(?:^|_)(?:index|idx|best|selected|chosen|position|rank)(?:$|_)|[a-z](?:Index|Idx|Position)$"
)
_MAX_TRIES = 8
_MAX_DEPTH = 4
_MAX_HEADER_CHARS = 2000
_MIN_ROW_CHARS = 40


_SORTING = frozenset(("sort", "sort_by", "sortby", "order_by", "orderby", "ordering", "sorted_by"))
_RELEVANCE = re.compile(r"relevan|score|best|similar|rank|match", re.IGNORECASE)


def is_sorted_by(name: str, value: str) -> bool:
    """Return whether an argument or member says that rows are sorted, not by relevance."""
    return name.lower() in _SORTING and value != "" and _RELEVANCE.search(value) is None


class Rows(NamedTuple):
    """An array of objects and its elements, and what stands beside it.

    Attributes:
        has_query: a query does.
        is_counted: a list of as many values does, or the place of one of its elements.
        holder: the name of the member that holds it, in small letters.
    """

    text: str
    elements: list[Span]
    end: int
    has_query: bool = False
    is_counted: bool = False
    holder: str = ""


def rows_within(text: str, start: int) -> tuple[Rows | None, int]:
    """Return the one array of objects in the JSON at `start`, and where that ends."""
    end = (array_at if text[start] == "[" else object_at)(text, start)[1]
    return only_rows(text, start, end, 0), end


def rows_in_lines(text: str, start: int, end: int, *, whole: bool = True) -> Rows | None:
    """Return objects that stand in a line each; where they are the whole, nothing else may."""
    elements: list[Span] = []
    at = start
    while text[at : at + 1] == "{" and at < end and len(elements) <= MAX_PIECES:
        elements.append(Span(at, object_at(text, at)[1]))
        at = skip_space(text, elements[-1].end)
        if "\n" not in text[elements[-1].end : at] and at < end:
            return None
    is_all = at >= end or not whole
    return Rows(text, elements, elements[-1].end) if is_all and len(elements) > 1 else None


def only_rows(text: str, at: int, end: int, depth: int) -> Rows | None:
    """Return the one array of objects in the JSON at `at`; None unless it is all that is there."""
    if text[at : at + 1] == "[":
        elements, until = array_at(text, at)
        if depth == 0 and skip_space(text, until) < end:
            return None
        is_rows = len(elements) > 1 and all(text[span.start] == "{" for span in elements)
        return Rows(text, elements, until) if is_rows else None
    if text[at : at + 1] != "{" or depth > _MAX_DEPTH:
        return None
    members, until = object_at(text, at)
    if depth == 0 and skip_space(text, until) < end:
        return None
    found = {
        member.key.lower(): array
        for member in members
        if isinstance(member.value, (list, dict))
        for array in [only_rows(text, member.span.start, member.span.end, depth + 1)]
        if array is not None
    }
    if len(found) != 1 or found.keys() & SEQUENCE_HOLDERS:
        return None
    name, array = found.popitem()
    queried = any(m.key in QUERY_FIELDS and isinstance(m.value, str) and m.value for m in members)
    counted = any(_counts(member, len(array.elements)) for member in members)
    return array._replace(
        has_query=array.has_query or queried,
        is_counted=array.is_counted or counted,
        holder=array.holder or name,
    )


def _counts(member: Member, size: int) -> bool:
    """Return whether a member beside `size` rows tells something of each, or the place of one."""
    value = member.value
    if isinstance(value, list):
        return len(value) == size and not any(isinstance(one, dict) for one in value)
    if isinstance(value, str):
        return is_sorted_by(member.key, value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and _PLACE_KEY.search(member.key) is not None


def only_string(text: str, at: int) -> Span | None:
    """Return the inside of the one JSON string in an object or an array that holds JSON itself."""
    found = list(_strings(text, at, 0))
    return found[0] if len(found) == 1 else None


def _strings(text: str, at: int, depth: int) -> Iterator[Span]:
    if depth > _MAX_DEPTH:
        return
    if text[at : at + 1] == "{":
        spans = [member.span for member in object_at(text, at)[0]]
    elif text[at : at + 1] == "[":
        spans = array_at(text, at)[0][:_MAX_TRIES]
    else:
        return
    for span in spans:
        if text[span.start] == '"':
            head = text[span.start + 1 : span.start + _MAX_HEADER_CHARS]
            if "[" in head and "{" in head and span.end - span.start > _MIN_ROW_CHARS:
                yield Span(span.start + 1, span.end - 1)
        else:
            yield from _strings(text, span.start, depth + 1)
