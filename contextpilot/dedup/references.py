"""The short text that stands for a run of lines already present earlier in the prompt.

The first reference of a text to an earlier one says in words what it means, later ones are terse:

    [7 lines omitted, same as tool result #1: "The Supplier shall deliver the"]
    [4 lines #1 "12.3 Payment is d"]
    [1 line above "total 0 errors in mo"]
"""

from __future__ import annotations

import re

SHORTEST_QUOTE = 12
LONGEST_QUOTE = 40
_CHARS_PER_QUOTED_CHAR = 16

_SIGN = re.compile(r" lines? (?:x\d+ )?(?:above |#|omitted, )")
_REFERENCE = re.compile(
    r"[ \t]*\[\d+ lines? (?:x\d+ )?"
    r"(?:above|#\d+|omitted, same as (?:above|[a-z ]+ #\d+):)"
    r' ".*"\]\r?'
)


def write_reference(
    *, lines: int, times: int, place: str, first_line: str, chars: int, terse: bool
) -> str:
    """One line that names a run of `lines` lines (`times` times over) and quotes its beginning.

    `place` says where the earlier copy stands; `chars` is what the run holds and sets the length
    of the quote.
    """
    amount = f"{lines} line" if lines == 1 else f"{lines} lines"
    if times > 1:
        amount += f" x{times}"
    quote = _quote(first_line, chars)
    if terse:
        return f'[{amount} {place} "{quote}"]'
    return f'[{amount} omitted, same as {place}: "{quote}"]'


def may_hold_references(text: str) -> bool:
    """False where no line of `text` can be a reference; cheaper than asking every line."""
    return _SIGN.search(text) is not None


def is_reference(line: str) -> bool:
    return _REFERENCE.fullmatch(line) is not None


def _quote(line: str, chars: int) -> str:
    length = min(LONGEST_QUOTE, max(SHORTEST_QUOTE, chars // _CHARS_PER_QUOTED_CHAR))
    # A lone carriage return or a Unicode line separator would break the reference in two.
    parts = line.strip()[:length].splitlines()
    return parts[0].rstrip() if parts else ""
