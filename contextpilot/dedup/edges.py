"""Which lines at the ends of a run stay, so that what was edited beside it can be edited again.

A tool that replaces text exactly needs what was changed together with lines around it. An edit
lies between two runs of one text. Beside what is none (the frame that a tool put around a file, the
place where it cut a long one) nothing has to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from .stream import Copy
from .trust import WORKSPACE

CONTEXT_LINES = 3
"""So many stay at most; one in so many of the run, in files and in what is hardly edited."""
_LINES_PER_CONTEXT_LINE = 8
_LINES_PER_CONTEXT_LINE_ELSEWHERE = 24

_LEAST_LINES = 4
"""Shorter runs are rather what tools write around each result than lines beside an edit."""


def without_context(copies: Sequence[Copy]) -> list[Copy]:
    """Return the runs of one text, in order, without the lines that stay beside edits."""
    trimmed = []
    for at, copy in enumerate(copies):
        begin = copy.begin + _lines_kept_before(copy, copies[at - 1] if at else None)
        end = copy.end - _lines_kept_behind(
            copy, copies[at + 1] if copy is not copies[-1] else None
        )
        if _ends_text(copy) and not copy.zone.keys[copy.end - 1] and end > begin + 1:
            end -= 1  # so that a text still ends with its line end
        is_same = begin == copy.begin and end == copy.end
        trimmed.append(copy if is_same else copy._replace(begin=begin, end=end))
    return trimmed


def _context(copy: Copy) -> int:
    if copy.zone.whole:
        return 0
    is_file = copy.slot.trust == WORKSPACE
    share = _LINES_PER_CONTEXT_LINE if is_file else _LINES_PER_CONTEXT_LINE_ELSEWHERE
    return min(CONTEXT_LINES, (copy.end - copy.begin) // share)


def _lines_kept_before(copy: Copy, before: Copy | None) -> int:
    """How many lines stay at a run's head; blank ones before it stay anyway."""
    lines = _context(copy) if before is not None and _is_edit(before, copy) else 0
    if not lines:
        return 0
    beside = copy.zone.keys[max(0, copy.begin - lines) : copy.begin]
    return lines - sum(1 for _ in takewhile(lambda key: not key.strip(), reversed(beside)))


def _lines_kept_behind(copy: Copy, behind: Copy | None) -> int:
    return _context(copy) if behind is not None and _is_edit(copy, behind) else 0


def _is_edit(first: Copy, second: Copy) -> bool:
    """Whether what lies between two runs was edited: both stood in one text, at length."""
    if first.number != second.number and first.zone.is_json:
        return False  # in two strings
    leaves_some = first.zone.first + first.end < second.zone.first + second.begin
    shorter = min(first.end - first.begin, second.end - second.begin)
    return leaves_some and first.owner == second.owner and shorter >= _LEAST_LINES


def _ends_text(copy: Copy) -> bool:
    return copy.zone.first + copy.end == copy.zone.of
