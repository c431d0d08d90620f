"""Numbered lists of blocks: `[1] ...`, `Document 1: ...`, `1. ...`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from contextpilot.prompt.extract.endings import movable
from contextpilot.prompt.extract.fences import Fences
from contextpilot.prompt.extract.group import Found, Piece, Span
from contextpilot.prompt.extract.lines import line_matches

WORDS = (
    r"(?:search[ \t]+)?(?:document|doc|passage|source|context|chunk|snippet|result|reference|"
    r"memory|article|excerpt|page|fact|evidence)"
)
_PATTERNS = (
    re.compile(r"[ \t]*\[(\d{1,4})\][:.)]?[ \t]*"),
    re.compile(
        rf"[ \t]*(?:#{{1,6}}[ \t]+)?(?:\*\*)?\[?{WORDS}[ \t]*(?:#|no\.?[ \t]*)?\[?(\d{{1,4}})\]?"
        r"(?:\*\*)?(?:[:.)\-–—](?:\*\*)?|(?=[ \t]*\()|(?=[ \t]*\n))[ \t]*",
        re.IGNORECASE,
    ),
)
_DOTTED = re.compile(r"(\d{1,4})[.)][ \t]+")
_CUE_LINE = re.compile(
    r"\b(?:documents?|passages?|sources?|contexts?|chunks?|snippets?|results?|references?|memor\w+|"
    r"articles?|excerpts?|pages?|facts?|evidence|knowledge)\b[^\n]{0,80}:[ \t*]*$",
    re.IGNORECASE,
)
MIN_MEAN_CHARS = 80
"""Shorter lists are choices or steps as often as documents: automatic detection passes them by."""


def find_numbered(text: str, region: Span, *, closed: bool, auto: bool) -> Found | None:
    """Return the numbered blocks of a region; None when unsure.

    The numbers at the beginnings of lines must be 0 or 1 and on, each once.

    Args:
        closed: nothing but blocks stands in the region after the first number.
        auto: accept `1. ...` only after a line that announces documents, and no short blocks.
    """
    lists = [_markers(pattern, text, region) for pattern in _PATTERNS]
    dotted = _markers(_DOTTED, text, region)
    if dotted and (not auto or closed or _is_announced(text[region.start : dotted[0].start()])):
        lists.append(dotted)
    markers = min((found for found in lists if found), key=lambda m: m[0].start(), default=None)
    if markers is None:
        return None
    pieces = movable(text, _cut(text, markers, region.end), region.end, closed=closed)
    fences = Fences(text)
    if len(pieces) < 2 or fences.is_inside(pieces[0].span.start):
        return None
    if not all(p.body.of(text).strip() and fences.are_closed(p.body) for p in pieces):
        return None
    if auto and sum(p.body.end - p.body.start for p in pieces) < MIN_MEAN_CHARS * len(pieces):
        return None
    is_complete = len(pieces) == len(markers)
    return Found("numbered", pieces, pieces[-1].span.end if is_complete else len(text))


def _markers(pattern: re.Pattern[str], text: str, region: Span) -> list[re.Match[str]]:
    """Return the marks of a list; nothing unless their numbers are complete and unique."""
    markers = list(line_matches(pattern, text, region))
    numbers = sorted(int(marker[1]) for marker in markers)
    if len(numbers) < 2 or numbers[0] > 1:
        return []
    return markers if numbers == list(range(numbers[0], numbers[0] + len(numbers))) else []


def _cut(text: str, markers: Sequence[re.Match[str]], end: int) -> list[Piece]:
    pieces = []
    for i, marker in enumerate(markers):
        until = markers[i + 1].start() if i + 1 < len(markers) else end
        body = Span(marker.end(), marker.end() + len(text[marker.end() : until].rstrip()))
        pieces.append(Piece(Span(marker.start(), body.end), body, Span(*marker.span(1))))
    return pieces


def _is_announced(before: str) -> bool:
    lines = before.rstrip().rsplit("\n", 1)
    return bool(_CUE_LINE.search(lines[-1]))
