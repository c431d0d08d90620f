"""The importance ranking written after reordered blocks, so the model still knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import Formatter

RANKING_TEMPLATE = (
    "The documents above are not sorted by importance. "
    "By number, from most to least important: {ranking}."
)
LONGEST_ENTRY = "100,"
"""What one block adds to a ranking at most; mostly less, as blocks in a row are one entry."""


def check_template(name: str, template: str, *fields: str) -> str:
    """Return `template`; raise TypeError or ValueError if `fields` do not fill it."""
    if not isinstance(template, str):
        raise TypeError(f"{name} must be a string, not {type(template).__name__}")
    known = ", ".join("{" + field + "}" for field in fields)
    try:
        for _, field, form, conversion in Formatter().parse(template):
            if field is not None and (field not in fields or form or conversion):
                raise ValueError(f"field {field!r}")
    except ValueError as error:
        raise ValueError(f"{name} may only name {known}: {error} in {template!r}") from None
    return template


def annotate(order: Sequence[int], template: str = RANKING_TEMPLATE) -> str:
    """Return the annotation of a reordered prompt, or "" when the order is the original one.

    `order[p]` is the original rank of the block at position p; the text names positions from 1,
    three and more in a row as a range: "4,1-3,5". It stands after what the cache may hold, so
    every token of it is computed.
    """
    by_rank = sorted(range(len(order)), key=order.__getitem__)
    if by_rank == list(range(len(order))):
        return ""
    return template.format(ranking=",".join(_entries(by_rank)))


def _entries(positions: Sequence[int]) -> Iterator[str]:
    start = 0
    for end in range(1, len(positions) + 1):
        if end < len(positions) and positions[end] == positions[end - 1] + 1:
            continue
        if end - start > 2:
            yield f"{positions[start] + 1}-{positions[end - 1] + 1}"
        else:
            yield from (str(position + 1) for position in positions[start:end])
        start = end
