"""Blocks in JSON: the objects of an array of search results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from contextpilot.prompt.extract.group import Found, Piece, Span

_CONTENT_KEYS = (
    *("content", "text", "page_content", "body", "snippet", "passage", "document", "chunk"),
    *("memory", "fact", "description", "summary", "raw_content"),
)
_NUMBER_KEYS = ("index", "rank", "position", "number", "id", "citation")
_SEQUENCE_KEYS = frozenset(("role", "step", "line", "turn", "sequence"))
_TIMELINE_KEYS = frozenset(
    (
        *("ts", "time", "timestamp", "date", "datetime", "created", "created_at", "user"),
        *("username", "author", "sender", "from", "speaker"),
    )
)
_RETRIEVED_KEYS = frozenset(
    (
        *("score", "similarity", "distance", "relevance", "relevance_score", "rank", "url", "link"),
        *("source", "metadata"),
    )
)
_SPACE = re.compile(r"[ \t\r\n]*")
_ARRAY = re.compile(r"\[[ \t\r\n]*\{")
_MAX_TRIES = 8
_DECODER = json.JSONDecoder(strict=False)


class _Member(NamedTuple):
    key: str
    value: Any
    span: Span


def find_rows(text: str, region: Span, *, embedded: bool = False) -> Found | None:
    """Return the objects of an array as blocks, when they hold texts and are in no sequence.

    The region is an array of objects, or an object with one array of objects.

    Args:
        embedded: look for an array anywhere in the region.
    """
    try:
        found = _whole(text, _skip(text, region.start), region)
    except (ValueError, RecursionError):
        found = None
    return _embedded(text, region) if found is None and embedded else found


def _whole(text: str, at: int, region: Span) -> Found | None:
    """Return the blocks of the array or object at `at` if it is all that the region holds."""
    if text[at : at + 1] == "[":
        elements, end = _array(text, at)
        return _as_found(text, elements, region.end) if _skip(text, end) >= region.end else None
    if text[at : at + 1] != "{":
        return None
    members, end = _object(text, at)
    if _skip(text, end) < region.end:
        return None
    arrays = [m.span.start for m in members if isinstance(m.value, list) and len(m.value) > 1]
    found = [_as_found(text, _array(text, start)[0], region.end) for start in arrays]
    known = [item for item in found if item is not None]
    return known[0] if len(known) == 1 else None


def _embedded(text: str, region: Span) -> Found | None:
    for tried, match in enumerate(_ARRAY.finditer(text, *region)):
        if tried == _MAX_TRIES:
            break
        try:
            elements, end = _array(text, match.start())
        except (ValueError, RecursionError):
            continue
        found = _as_found(text, elements, len(text)) if end <= region.end else None
        if found is not None:
            return found
    return None


def _as_found(text: str, elements: list[Span], note_at: int) -> Found | None:
    rows = [_object(text, span.start)[0] if text[span.start] == "{" else [] for span in elements]
    names = [{member.key for member in row} for row in rows]
    if len(rows) < 2 or any(_is_sequence(known) for known in names):
        return None
    content = next((k for k in _CONTENT_KEYS if all(_holds_text(row, k) for row in rows)), None)
    if content is None:
        return None
    number = next((k for k in _NUMBER_KEYS if all(_holds_number(row, k) for row in rows)), None)
    pieces = []
    for span, row in zip(elements, rows, strict=True):
        inner = next(m.span for m in row if m.key == content)
        body = Span(inner.start + 1, inner.end - 1)
        label = next((m.span for m in row if m.key == number), None)
        pieces.append(Piece(span, body, label))
    return Found("json", tuple(pieces), note_at)


def _is_sequence(names: set[str]) -> bool:
    """Return whether objects with these members tell something in order: a chat, a thread, steps.

    What was retrieved may have a time and an author, too, but then it has a score or a source.
    """
    if names & _SEQUENCE_KEYS:
        return True
    return bool(names & _TIMELINE_KEYS) and not names & _RETRIEVED_KEYS


def _holds_text(row: list[_Member], key: str) -> bool:
    values = [member.value for member in row if member.key == key]
    return len(values) == 1 and isinstance(values[0], str) and bool(values[0])


def _holds_number(row: list[_Member], key: str) -> bool:
    values = [member.value for member in row if member.key == key]
    return len(values) == 1 and isinstance(values[0], int) and not isinstance(values[0], bool)


def _array(text: str, at: int) -> tuple[list[Span], int]:
    """Return the elements of the array that begins at `at`, and where it ends."""
    elements: list[Span] = []

    def element(start: int) -> int:
        elements.append(Span(start, _DECODER.raw_decode(text, start)[1]))
        return elements[-1].end

    return elements, _each(text, at, "]", element)


def _object(text: str, at: int) -> tuple[list[_Member], int]:
    """Return the members of the object that begins at `at`, and where it ends."""
    members: list[_Member] = []

    def member(start: int) -> int:
        key, end = _DECODER.raw_decode(text, start)
        colon = _skip(text, end)
        if not isinstance(key, str) or text[colon : colon + 1] != ":":
            raise ValueError("no member of a JSON object")
        begin = _skip(text, colon + 1)
        value, end = _DECODER.raw_decode(text, begin)
        members.append(_Member(key, value, Span(begin, end)))
        return end

    return members, _each(text, at, "}", member)


def _each(text: str, at: int, closing: str, item: Callable[[int], int]) -> int:
    """Call `item(start) -> end` for the items between brackets; return where the brackets end."""
    at = _skip(text, at + 1)
    if text[at : at + 1] == closing:
        return at + 1
    while True:
        at = _skip(text, item(at))
        mark = text[at : at + 1]
        if mark == closing:
            return at + 1
        if mark != ",":
            raise ValueError("no JSON")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
