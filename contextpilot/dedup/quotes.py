"""Quotations that fit one line of a prompt alone.

Counts how many lines so far begin with each prefix of certain lengths, indentation aside. A prefix
that is counted once names its line; what comes later in the prompt changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

LENGTHS = (12, 14, 16, 18, 20, 24, 28, 32, 40, 56, 80, 120)
"""Of quotations, in characters. A line that needs a longer one is not quoted."""

_UNQUOTABLE = re.compile('["\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')


class Quotes:
    """The lines of a prompt so far. Linear in their characters."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, lines: Iterable[str]) -> None:
        """Count lines that stand in the prompt."""
        shortest = LENGTHS[0]
        bare = [line.lstrip() for line in lines if len(line) >= shortest]
        if len(bare) == 1:
            self._add_one(bare[0])
            return
        for length in LENGTHS:
            bare = [line for line in bare if len(line) >= length]
            if not bare:
                return
            self._counts.update([line[:length] for line in bare])

    def _add_one(self, bare: str) -> None:
        counts, size = self._counts, len(bare)
        for length in LENGTHS:
            if length > size:
                return
            beginning = bare[:length]
            counts[beginning] = counts.get(beginning, 0) + 1

    def unique(self, line: str, at_least: int = 0) -> str | None:
        """The shortest beginning of a line that no other line counted so far has.

        None: there is none of `at_least` so many characters that can be written between quotation
        marks.
        """
        bare = quotable(line)
        if len(bare) < LENGTHS[0]:
            return None
        for length in LENGTHS:
            if at_least <= length <= len(bare) and self._counts.get(bare[:length]) == 1:
                return bare[:length]
        return None


def can_be_quoted(line: str) -> bool:
    """Whether enough of a line can stand between quotation marks."""
    return len(line) >= LENGTHS[0] and len(quotable(line)) >= LENGTHS[0]


def quotable(line: str) -> str:
    """The beginning of a line, indentation aside, that can stand between quotation marks."""
    bare = line.lstrip()
    stop = _UNQUOTABLE.search(bare)
    return bare if stop is None else bare[: stop.start()]
