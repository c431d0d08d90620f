"""Blocks under Markdown headings, and blocks between separators."""

from __future__ import annotations

import re
from collections import Counter

from contextpilot.prompt.extract.endings import movable
from contextpilot.prompt.extract.fences import Fences
from contextpilot.prompt.extract.group import Found, Piece, Span
from contextpilot.prompt.extract.lines import line_matches
from contextpilot.prompt.extract.numbered import MIN_MEAN_CHARS

_HEADING = re.compile(r"(#{1,6})[ \t]+\S[^\n]*")
_RULE = re.compile(r"(-{3,}|={3,}|\*{3,}|_{3,}|#{3,})[ \t\r]*$", re.MULTILINE)


def find_markdown(text: str, region: Span, *, closed: bool) -> Found | None:
    """Return the sections of the highest heading level that occurs more than once."""
    fences = Fences(text)
    headings = [h for h in line_matches(_HEADING, text, region) if not fences.is_inside(h.start())]
    levels = Counter(len(heading[1]) for heading in headings)
    level = min((level for level, times in levels.items() if times > 1), default=None)
    if level is None or any(len(heading[1]) < level for heading in headings[1:]):
        return None
    marks = [heading.start() for heading in headings if len(heading[1]) == level]
    pieces = [_trimmed(text, a, b) for a, b in zip(marks, [*marks[1:], region.end], strict=True)]
    moved = movable(text, pieces, region.end, closed=closed)
    if len(moved) < 2 or not all(fences.are_closed(piece.span) for piece in moved):
        return None
    return Found("markdown", moved, moved[-1].span.end if len(moved) == len(marks) else len(text))


def find_separated(
    text: str, region: Span, *, closed: bool, auto: bool, separator: str | None = None
) -> Found | None:
    """Return the blocks between separators: one rule repeated, or the given text.

    Unless the region is closed, what stands before the first and after the last separator is an
    introduction and a question, and stays in place.

    Args:
        auto: pass by short blocks, and blocks that announce the next.
    """
    marks = _separators(text, region, separator)
    if not marks:
        return None
    begins = [region.start, *(mark.end for mark in marks)]
    ends = [*(mark.start for mark in marks), region.end]
    spans = list(zip(begins, ends, strict=True))
    pieces = [_trimmed(text, begin, end) for begin, end in (spans if closed else spans[1:-1])]
    bodies = [piece.body.of(text) for piece in pieces]
    fences = Fences(text)
    if len(pieces) < 2 or fences.is_inside(pieces[0].span.start) or not all(bodies):
        return None
    if not all(fences.are_closed(p.span) for p in pieces) or (auto and not _are_documents(bodies)):
        return None
    return Found("separator", tuple(pieces), pieces[-1].span.end if closed else len(text))


def _are_documents(bodies: list[str]) -> bool:
    if any(body.endswith(":") or len(body) < MIN_MEAN_CHARS // 2 for body in bodies):
        return False
    return sum(map(len, bodies)) >= MIN_MEAN_CHARS * len(bodies)


def _separators(text: str, region: Span, separator: str | None) -> list[Span]:
    if separator is not None:
        pattern = re.compile(re.escape(separator))
        return [Span(*mark.span()) for mark in pattern.finditer(text, *region)]
    rules = list(line_matches(_RULE, text, region))
    if len({rule[1] for rule in rules}) != 1:  # of several kinds it is unsure which separates
        return []
    return [Span(*rule.span()) for rule in rules]


def _trimmed(text: str, begin: int, end: int) -> Piece:
    """Return a piece without the white space around it, which stays in place."""
    whole = text[begin:end]
    start = begin + len(whole) - len(whole.lstrip())
    span = Span(start, max(start, begin + len(whole.rstrip())))
    return Piece(span, span)
