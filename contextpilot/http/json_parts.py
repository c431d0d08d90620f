"""How much JSON takes once it is read: strangers may send what takes twenty times its length."""

from __future__ import annotations

import re

MAX_PARTS = 500_000
"""Of a body's JSON that is read, beyond those that texts have: the loop waits for it."""
PART_BYTES = 64
"""What a part takes once it is read, measured: 32 to 62."""
_BYTES_A_PART = 16
"""Texts have fewer parts than one in so many bytes."""
_SMALL_BYTES = 16 << 10
_WINDOW_BYTES = 64 << 10
"""Looked at together: what comes of them stays in the processor's own memory."""
_COMMA, _COLON, _BRACE = b",:{"
_LOWER = 0x20
"""Turns a bracket into a brace."""
_TWO_WIDE, _FOUR_WIDE = 0xC4, 0xF0
"""First bytes in UTF-8 of characters that make Python take two, or four, bytes for each."""
_ESCAPED_FOUR_WIDE = re.compile(rb"\\u[dD][89abAB]")


def num_parts(body: bytes) -> int:
    """Return how many parts of a body's JSON become objects, beyond those that texts have.

    Empty lists take twenty times their length once they are read. Every byte is looked at: whoever
    knew which are not could hide parts there.
    """
    if len(body) <= _SMALL_BYTES:
        return 0
    import numpy as np

    given = np.frombuffer(body, np.uint8)
    marks = 0
    for begin in range(0, len(given), _WINDOW_BYTES):
        window = given[begin : begin + _WINDOW_BYTES]
        is_mark = (window | _LOWER) == _BRACE
        is_mark |= window == _COMMA
        is_mark |= window == _COLON
        marks += int(np.count_nonzero(is_mark))
    return max(0, marks - len(body) // _BYTES_A_PART)


def wide_bytes(body: bytes) -> int:
    """Return what a body's JSON takes, decoded and read, beyond its length for each of the two.

    One character beyond the first 256 doubles a whole text, an emoji makes it four times as long.
    """
    if len(body) <= _SMALL_BYTES:
        return 0
    import numpy as np

    given = np.frombuffer(body, np.uint8)
    highest, num_chars = 0, 0
    for begin in range(0, len(given), _WINDOW_BYTES):
        window = given[begin : begin + _WINDOW_BYTES]
        highest = max(highest, int(window.max()))
        num_chars += int(np.count_nonzero((window & 0xC0) != 0x80))
    width = 4 if highest >= _FOUR_WIDE else 2 if highest >= _TWO_WIDE else 1
    escaped = 4 if _ESCAPED_FOUR_WIDE.search(body) else 2 if b"\\u" in body else 1
    read_width = max(width, escaped)
    return sum(max(0, each * num_chars - len(body)) for each in (width, read_width))
