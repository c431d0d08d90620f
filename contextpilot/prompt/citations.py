"""From the numbers that an answer cites to the blocks that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_CITED = re.compile(r"\[(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\]")
_RANGE = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")


class Citation(NamedTuple):
    """One number that an answer cites.

    Attributes:
        number: as the prompt shows it, starting at 1.
        rank: original rank of its block, starting at 0: the block is `contexts[rank]`.
        block: what the caller passed there; None in messages that were pickled.
        start, end: position of the brackets in the answer.
    """

    number: int
    rank: int
    block: Any
    start: int
    end: int


def citations(answer: str, order: Sequence[int], blocks: Sequence[Any]) -> list[Citation]:
    """Return what an answer cites, as it goes: `[3]`, `[1, 3]`, `[2-4]`; unknown numbers are none.

    Args:
        order: for each position in the prompt the original rank of its block.
        blocks: what stands at each original rank; may be empty.
    """
    return [
        Citation(number, rank := order[number - 1], blocks[rank] if blocks else None, *found.span())
        for found in _CITED.finditer(answer)
        for number in _numbers(found[1])
        if 1 <= number <= len(order)
    ]


def _numbers(text: str) -> Iterator[int]:
    for found in _RANGE.finditer(text):
        first = int(found[1])
        yield from range(first, int(found[2] or first) + 1)
