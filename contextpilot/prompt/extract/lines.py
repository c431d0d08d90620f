"""Matches at the beginnings of lines, without trying every character between them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from contextpilot.prompt.extract.group import Span


def line_matches(pattern: re.Pattern[str], text: str, region: Span) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern that begin where a line of the region does."""
    start = region.start
    while True:
        match = pattern.match(text, start, region.end)
        if match is not None:
            yield match
        start = text.find("\n", start, region.end) + 1
        if not start:
            return
