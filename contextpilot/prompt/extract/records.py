"""Blocks written as fields (`Title: ...`, `URL: ...`), or named by their file or source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from contextpilot.prompt.extract.endings import movable
from contextpilot.prompt.extract.group import MAX_PIECES, Found, Piece, Span, too_many
from contextpilot.prompt.extract.numbered import MIN_MEAN_CHARS
from contextpilot.prompt.extract.page import Page
from contextpilot.prompt.extract.vocabulary import (
    FIELD_LABELS,
    RECORD_FIELDS,
    RETRIEVAL_WRAPPERS,
    WRAPPERS,
)

_FIRST_FIELD = re.compile(
    r"(?:\A|(?<=\n))[ \t]{0,4}\**([A-Za-z][\w ]{0,24}?)\**[ \t]?:\**(?=[ \t]|\n|$)"
)
_FIELD = re.compile(
    r"^[ \t>*-]{0,4}\**([A-Za-z][\w ]{0,24}?)\**[ \t]?:[ \t]*\**[ \t]*\S", re.MULTILINE
)
_NAMED = re.compile(
    r"^(?:\[(?:source|document|doc|file|title|"
    r"url)s?[ \t]{0,2}[:=][ \t]{0,2}[^\]\n\d][^\]\n]{0,150}\]:?|"
    r"\[?[\w./\-]{1,80}\.(?:pdf|md|txt|docx?|html?|pptx?|rst)(?:#page=\d{1,5})?\]?:(?=[ \t]))",
    re.IGNORECASE | re.MULTILINE,
)
_RECORD_CHARS = 600


def find_records(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return blocks that each begin with the same field, or with a name in the same form."""
    return _by_field(page, region, wrapper) or _by_name(page, region, wrapper)


def is_record(body: str) -> bool:
    """Return whether a block begins with the fields of a search hit."""
    names = {match[1].lower() for match in _FIELD.finditer(body[:_RECORD_CHARS])}
    return any(field in names for field in RECORD_FIELDS) and len(names) > 1


def _by_field(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return records of two and more fields, with a blank line between records."""
    text = page.text
    begins: dict[str, list[int]] = {}
    fields = islice(_FIRST_FIELD.finditer(text, *region), 8 * MAX_PIECES)
    for match in fields:
        name = match[1].lower()
        if name in FIELD_LABELS and _begins_paragraph(text, match.start(), region.start):
            begins.setdefault(name, []).append(match.start())
    lists = sorted((marks[0], marks) for marks in begins.values() if len(marks) > 1)
    if not lists:
        return None
    found = _as_found(page, lists[0][1], region, wrapper)
    if found is None:
        return None
    bodies = [piece.body.of(text) for piece in found.pieces]
    if any(len(_FIELD.findall(body[:_RECORD_CHARS])) < 2 for body in bodies):
        return None
    if not found.why and page.role == "tool" and all(map(is_record, bodies)):
        return found._replace(why="search-records")
    return found


def _begins_paragraph(text: str, at: int, begin: int) -> bool:
    """Return whether nothing stands right before a place: a blank line, a rule, an introduction."""
    before = text[max(begin, at - 80) : at].split("\n")
    line = before[-2] if len(before) > 1 else ""
    return not line.strip(" \t-=*_") or line.rstrip().endswith((":", ">"))


def _by_name(page: Page, region: Span, wrapper: str | None) -> Found | None:
    """Return blocks that each begin with `[Source: name]` or `name.pdf:`."""
    marks = [mark.start() for mark in islice(_NAMED.finditer(page.text, *region), MAX_PIECES + 1)]
    return _as_found(page, marks, region, wrapper) if len(marks) > 1 else None


def _as_found(page: Page, marks: Sequence[int], region: Span, wrapper: str | None) -> Found | None:
    text = page.text
    if len(marks) > MAX_PIECES:
        return too_many("numbered", [Piece(Span(at, at), Span(at, at)) for at in marks])
    pieces = []
    for at, until in zip(marks, [*marks[1:], region.end], strict=True):
        span = Span(at, at + len(text[at:until].rstrip(" \t\r\n-=*_")))
        pieces.append(Piece(span, span))
    moved = movable(text, pieces, region.end, closed=wrapper is not None or page.role == "tool")
    if len(moved) < 2 or page.fences.is_inside(moved[0].span.start):
        return None
    if sum(p.body.end - p.body.start for p in moved) < MIN_MEAN_CHARS * len(moved):
        return None
    if not all(page.fences.are_closed(piece.span) for piece in moved):
        return None
    note_at = moved[-1].span.end if len(moved) == len(marks) else len(text)
    intro = page.intro(marks[0], region.start)
    against = "introduced-as-sequence" if intro.sequence else ""
    why = _why(page, wrapper, intro.announced or intro.told or page.told)
    return Found("records", moved, note_at, why, against)


def _why(page: Page, wrapper: str | None, announced: bool) -> str:
    if page.is_found:
        return "search-tool"
    if wrapper in RETRIEVAL_WRAPPERS or (wrapper in WRAPPERS and page.role != "tool"):
        return "wrapper"
    return "cue" if announced else ""
