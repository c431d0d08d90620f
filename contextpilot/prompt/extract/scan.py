"""Looking through long texts without keeping other threads waiting.

A single call into `re` holds the interpreter for as long as it takes: some 30 ms a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from contextpilot.prompt.extract.group import Span

_STEP_CHARS = 1 << 17


class LinePattern:
    """A pattern that is looked for at the beginnings of lines alone.

    `re` tries `^` at every character of a text; what begins with a line end it tries at those only.
    """

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._here = re.compile(pattern, flags | re.MULTILINE)
        self._after = re.compile(f"\n(?={pattern})", flags | re.MULTILINE)

    def match(self, text: str) -> re.Match[str] | None:
        """Return the match at the beginning of a text."""
        return self._here.match(text)

    def finditer(self, text: str, start: int, end: int) -> Iterator[re.Match[str]]:
        """Yield the matches; each stays within a line."""
        if start == 0 or text[start - 1] == "\n":
            first = self._here.match(text, start, end)
            if first is not None:
                yield first
        for line_end in self._after.finditer(text, start, end):
            match = self._here.match(text, line_end.end(), end)
            assert match is not None
            yield match

    def search(self, text: str, start: int, end: int) -> re.Match[str] | None:
        """Return the first match."""
        return next(self.finditer(text, start, end), None)


def holds(text: str, region: Span, signs: str) -> bool:
    """Return whether one of these characters stands in a region: it rules out most patterns."""
    return any(text.find(sign, *region) >= 0 for sign in signs)


def matches(pattern: LinePattern, text: str, region: Span) -> Iterator[re.Match[str]]:
    """Yield what `finditer` does, step by step."""
    at = region.start
    while at < region.end:
        stop = text.find("\n", at + _STEP_CHARS, region.end) + 1 or region.end
        yield from pattern.finditer(text, at, stop)
        at = stop
