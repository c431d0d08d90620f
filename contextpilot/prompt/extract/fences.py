"""Code fences: what stands in one is an example, and no block may tear one apart."""

from __future__ import annotations

import re
from bisect import bisect_left

from contextpilot.prompt.extract.group import Span

_FENCE = re.compile("```")


class Fences:
    """The code fences of a text."""

    def __init__(self, text: str) -> None:
        self._marks = [mark.start() for mark in _FENCE.finditer(text)]

    def is_inside(self, at: int) -> bool:
        """Return whether a place is within a fence."""
        return bisect_left(self._marks, at) % 2 == 1

    def are_closed(self, span: Span) -> bool:
        """Return whether every fence opened within a span is closed there."""
        return (bisect_left(self._marks, span.end) - bisect_left(self._marks, span.start)) % 2 == 0
