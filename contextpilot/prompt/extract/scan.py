"""Looking through long texts without keeping other threads waiting.

A single call into `re` holds the interpreter for as long as it takes: some 30 ms a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from contextpilot.prompt.extract.group import Span

_STEP_CHARS = 1 << 17


def matches(pattern: re.Pattern[str], text: str, region: Span) -> Iterator[re.Match[str]]:
    """Yield what `finditer` does, step by step, for a pattern whose matches stay within a line."""
    at = region.start
    while at < region.end:
        stop = text.find("\n", at + _STEP_CHARS, region.end) + 1 or region.end
        yield from pattern.finditer(text, at, stop)
        at = stop
