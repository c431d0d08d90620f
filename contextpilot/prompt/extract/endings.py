"""Where the last block of an open list ends: a question often follows without a mark.

A last block whose end is unsure is left where it is, and only those before it may move. The tests
give the same answer for every order of the blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from contextpilot.prompt.extract.group import Piece, Span
from contextpilot.prompt.extract.vocabulary import ANSWER_LABELS, QUESTION_LABELS, QUESTION_MARKS

_BLANK = re.compile(r"\n[ \t\r]*\n")
_RULE = re.compile(r"\n[ \t]*(?:-{3,}|={3,}|_{3,}|\*{3,}|\"{3})[ \t\r]*(?=\n|$)")
"""A line that closes a list whose blocks hold none."""
_CUE = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+|\*\*|<)?(?:(?:user'?s?[ \t]+|final[ \t]+)?"
    r"(?:question|query|answer|task|instructions?|request|input)\b|(?:user|human|assistant)[ \t]*:|"
    r"based on\b|using\b|given\b|please\b|now[, ]|"
    rf"(?:{QUESTION_LABELS}|{ANSWER_LABELS})[ \t*]*[:：]|"
    r"according to\b|from the (?:above|context)\b|with the above\b)",
    re.IGNORECASE,
)


_CLOSING = re.compile(
    rf"\n(?:[ \t#*]{{0,8}}(?:{QUESTION_LABELS})[ \t*]*[:：][^\n]{{1,400}}\n)?"
    rf"[ \t#*]{{0,8}}(?:(?:(?:final|helpful|your|short)[ \t])?(?:{ANSWER_LABELS})[ \t*]*"
    r"[:：][ \t*]*|"
    r"(?:the )?above (?:is|are) (?:the|all)\b[^\n]{1,80})\s*\Z",
    re.IGNORECASE,
)
"""What ends a prompt right after its last block: an answer to be written, a formula that closes."""
_CLOSING_CHARS = 1000
_TURN_END = re.compile(r"<\|[a-z_]{1,30}\|>|\[/INST\]|<end_of_turn>")
"""What ends a turn where a prompt is written by a chat template."""


def asks(body: str) -> bool:
    """Return whether a paragraph begins as a question or an instruction does."""
    return _CUE.match(body) is not None


def movable(text: str, pieces: Sequence[Piece], end: int, *, closed: bool) -> tuple[Piece, ...]:
    """Return the pieces with the last one's end set, or without it when its end is unsure.

    Args:
        pieces: of which the last reaches to `end`.
        closed: nothing but blocks can stand before `end`.
    """
    *others, last = pieces
    stop = end if closed else _open_end(text, others, last.body.start, end)
    if stop is None:
        return tuple(others)
    stop = last.body.start + len(text[last.body.start : stop].rstrip())
    return (*others, Piece(Span(last.span.start, stop), Span(last.body.start, stop), last.label))


def _open_end(text: str, others: Sequence[Piece], start: int, end: int) -> int | None:
    turn = _TURN_END.search(text, start, end)
    if turn is not None and not any(_TURN_END.search(text, *piece.body) for piece in others):
        end = turn.start()
    closing = _CLOSING.search(text, max(start, end - _CLOSING_CHARS), end)
    end = closing.start() if closing is not None else end
    rule = _RULE.search(text, start, end)
    if rule is not None and not any(_RULE.search(text, *piece.body) for piece in others):
        return rule.start()
    if any(_BLANK.search(text, *piece.body) for piece in others):
        return None
    blank = _BLANK.search(text, start, end)
    stop = blank.start() if blank else end
    bodies = [piece.body.of(text) for piece in others] + [text[start:stop]]
    if any(_is_followed_up(body) for body in bodies) or _has_more_lines(bodies):
        return None
    rest = text[stop:end].strip()
    if not rest or _CUE.match(rest):
        return stop
    paragraph = _BLANK.split(rest, 1)[0]
    return stop if paragraph.rstrip().endswith(QUESTION_MARKS) else None


def _is_followed_up(body: str) -> bool:
    """Return whether a line after the first may be a question that belongs to no block."""
    lines = body.strip().split("\n")[1:]
    return any(_CUE.match(line) or line.rstrip().endswith(QUESTION_MARKS) for line in lines)


def _has_more_lines(bodies: Sequence[str]) -> bool:
    """Return whether the last block alone has several lines: a question may be one of them."""
    *others, last = bodies
    return "\n" in last.strip() and all("\n" not in body.strip() for body in others)
