"""The short text that stands for lines already present earlier in the prompt.

The first reference of a text to an earlier one names it, later ones quote alone; either way the
quotation begins one line of the prompt only. Where there is none, lines are numbered. A text that
was given before as a whole is one sentence.

    [7 lines omitted, same as tool result #1: "The Supplier shall deliver"]
    [4 lines above: "12.3 Payment is"]
    [90 lines omitted: lines 3-92 of assistant message #2]
    [Identical: the same 90 lines as tool result #1, "def main() -> None:"]
"""

from __future__ import annotations

import re

HINT_TEMPLATE = 'Given earlier in this conversation, beginning "{first_line}".'
COPY_TEMPLATE = "Same text as [{position}]."
DEFAULT_MIN_CHARS = 48
"""Shorter runs are hardly worth a reference."""

_KINDS = "(?:tool result|document|(?:system|user|assistant) message) #\\d+"
_REFERENCE = re.compile(
    r"\[(?:\d+ lines? (?:x\d+ )?(?:numbered from \d+ )?"
    r"(?:above|#\d+|omitted, (?:numbered from \d+, )?same as (?:above|[a-z ]+ #\d+)"
    r"|omitted(?:, numbered from \d+)?: lines? \d)"
    rf"|(?:Identical|Unchanged): the same \d+ lines? as {_KINDS})"
)
"""`Unchanged` is what conversations stored before say."""
_HINT = HINT_TEMPLATE.split("{")[0]


def write_reference(
    *, lines: int, place: str | None, quote: str, number: int | None, mark: str = '"'
) -> str:
    """One line that stands for `lines` lines that begin where `quote` does.

    Args:
        place: the text in which they stand, as "tool result #1"; None where it was named before.
        number: that of the first line, where lines are numbered otherwise than in that place.
        mark: around the quotation.
    """
    amount = _amount(lines)
    shifted = "" if number is None else f"numbered from {number}"
    quoted = f"{mark}{quote}{mark}"
    if place is None:
        return f"[{amount} {shifted + ' ' if shifted else ''}above: {quoted}]"
    return f"[{amount} omitted, {shifted + ', ' if shifted else ''}same as {place}: {quoted}]"


def write_numbered(*, lines: int, place: str, first: int, number: int | None) -> str:
    """One line that stands for `lines` lines of `place` from its line `first`."""
    shifted = "" if number is None else f", numbered from {number}"
    span = f"line {first}" if lines == 1 else f"lines {first}-{first + lines - 1}"
    return f"[{_amount(lines)} omitted{shifted}: {span} of {place}]"


def write_identical(*, lines: int, place: str, quote: str | None) -> str:
    """The sentence that stands for a whole text that was given before."""
    beginning = "" if quote is None else f', "{quote}"'
    return f"[Identical: the same {_amount(lines)} as {place}{beginning}]"


def looks_like_ours(text: str) -> bool:
    """Whether a text holds what reads like a reference or a hint of ours, whoever wrote it."""
    return _HINT in text or _REFERENCE.search(text) is not None


def is_reference(line: str) -> bool:
    """Whether a line holds what reads like a reference or a hint of ours."""
    return looks_like_ours(line)


def _amount(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"
