"""Tokens of a radix tree's keys as bytes, which compare and hash fast.

A unit is what the tree's keys consist of: a token, or with EAGLE a pair of neighbours ("bigram"):
n tokens are n - 1 pairs, each packed into one unit, so all lengths are in units either way.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

WIDTH = 8
"""Bytes per unit."""
_WORD = 4  # a token's own bytes within a pair: ids are below 2 ** 31


def packed(tokens: Iterable[Any], paired: bool = False) -> bytes:
    """The units of a prompt or key; `paired`: of neighbours, unless they are pairs already."""
    if not (isinstance(tokens, array) and tokens.typecode == "q"):
        tokens = list(tokens)
        if tokens and isinstance(tokens[0], tuple):
            return _joined(array("q", (a for a, _ in tokens)), array("q", (b for _, b in tokens)))
        tokens = array("q", tokens)
    return _joined(tokens[:-1], tokens[1:]) if paired else tokens.tobytes()


def _joined(first: array[int], second: array[int]) -> bytes:
    units = array("i", bytes(len(first) * WIDTH))
    step = WIDTH // _WORD
    units[0::step] = array("i", first.tobytes())[0::step]
    units[1::step] = array("i", second.tobytes())[0::step]
    return units.tobytes()


def common_prefix(first: bytes, second: bytes, limit: int) -> int:
    """Bytes in which the two agree from the start, at most `limit`."""
    if first[:limit] == second[:limit]:
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
