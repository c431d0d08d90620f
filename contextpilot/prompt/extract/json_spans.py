"""Where the parts of a JSON text stand in it: elements, members, strings within strings."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NamedTuple

from contextpilot.prompt.extract.group import MAX_PIECES, Span

_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u.{4}|\\.", re.DOTALL
)
_DECODER = json.JSONDecoder(strict=False)


class Member(NamedTuple):
    key: str
    value: Any
    span: Span


def array_at(text: str, at: int) -> tuple[list[Span], int]:
    """Return the elements of the array that begins at `at`, and where it ends."""
    elements: list[Span] = []

    def element(start: int) -> int:
        if len(elements) > MAX_PIECES:
            raise ValueError("too many rows")
        elements.append(Span(start, _DECODER.raw_decode(text, start)[1]))
        return elements[-1].end

    return elements, _each(text, at, "]", element)


def object_at(text: str, at: int) -> tuple[list[Member], int]:
    """Return the members of the object that begins at `at`, and where it ends."""
    members: list[Member] = []

    def member(start: int) -> int:
        key, end = _DECODER.raw_decode(text, start)
        colon = skip_space(text, end)
        if not isinstance(key, str) or text[colon : colon + 1] != ":":
            raise ValueError("no member of a JSON object")
        begin = skip_space(text, colon + 1)
        value, end = _DECODER.raw_decode(text, begin)
        members.append(Member(key, value, Span(begin, end)))
        return end

    return members, _each(text, at, "}", member)


def _each(text: str, at: int, closing: str, item: Callable[[int], int]) -> int:
    """Call `item(start) -> end` for the items between brackets; return where the brackets end."""
    at = skip_space(text, at + 1)
    if text[at : at + 1] == closing:
        return at + 1
    while True:
        at = skip_space(text, item(at))
        mark = text[at : at + 1]
        if mark == closing:
            return at + 1
        if mark != ",":
            raise ValueError("no JSON")
        at = skip_space(text, at + 1)


def skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def places_of(text: str, inner: Span) -> Callable[[int], int]:
    """Return what maps places of a decoded JSON string to places of the text that holds it."""
    ends, shifts, shift = [0], [0], 0
    for escape in _ESCAPE.finditer(text, *inner):
        shift += escape.end() - escape.start() - 1
        ends.append(escape.end() - inner.start - shift)
        shifts.append(shift)
    return lambda at: inner.start + at + shifts[bisect_right(ends, at) - 1]
