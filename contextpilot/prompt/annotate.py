"""The importance ranking written after reordered blocks, so the model still knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import Formatter

from contextpilot.plan.price import displaces

RANKING_TEMPLATE = "By number, from most to least important: {ranking}."
TIME_TEMPLATE = "The frames by number, in order of time: {order}."
_MOST_CHARS = 2000
_MOST_FIELDS = 8
"""Of a template, which many prompts may follow: each becomes as long as what is filled in."""
_WORTH_TELLING = 0.25
"""Displacement from which on a ranking is written; a block next to its place needs none."""
LONGEST_ENTRY = "100,"
"""What one block adds to a ranking at most; mostly less, as blocks in a row are one entry."""


def check_template(name: str, template: str, *fields: str) -> str:
    """Return `template`; raise TypeError or ValueError if `fields` do not fill it."""
    if not isinstance(template, str):
        raise TypeError(f"{name} must be a string, not {type(template).__name__}")
    if len(template) > _MOST_CHARS:
        raise ValueError(f"{name} must have at most {_MOST_CHARS:,} characters")
    known = ", ".join("{" + field + "}" for field in fields)
    try:
        parts = list(Formatter().parse(template))
        if sum(field is not None for _, field, _, _ in parts) > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields")
        for _, field, form, conversion in parts:
            if field is not None and (field not in fields or form or conversion):
                raise ValueError(f"field {field!r}")
    except ValueError as error:
        raise ValueError(f"{name} may only name {known}: {error} in {template!r}") from None
    return template


def annotate(order: Sequence[int], template: str = RANKING_TEMPLATE) -> str:
    """Return the annotation of a reordered prompt, or "" when blocks moved too little to matter.

    `order[p]` is the original rank of the block at position p; the text names positions from 1,
    three and more in a row as a range: "4,1-3,5". It stands after what the cache may hold, so
    every token of it is computed.
    """
    if [*order] == sorted(order) or not displaces(order, _WORTH_TELLING):
        return ""
    by_rank = sorted(range(len(order)), key=order.__getitem__)
    ranges = [(by_rank[start] + 1, by_rank[last] + 1) for start, last in runs(by_rank)]
    return template.format(ranking=",".join(map(_entry, ranges)))


def time_order(times: Sequence[float | None]) -> str:
    """Return a sentence with the order in time of a video's frames; "" where they stand in it.

    Args:
        times: for each position the frame's seconds; None for what is no frame.
    """
    frames = [(time, at + 1) for at, time in enumerate(times) if time is not None]
    numbers = [number for _, number in sorted(frames)]
    if len(numbers) < 2 or numbers == sorted(numbers):
        return ""
    ranges = [(numbers[start], numbers[last]) for start, last in runs(numbers)]
    return TIME_TEMPLATE.format(order=",".join(map(_entry, ranges)))


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last index of each run in which every number is one above the last."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield start, i - 1
            start = i


def _entry(ends: tuple[int, int]) -> str:
    first, last = ends
    if first == last:
        return str(first)
    return f"{first},{last}" if first + 1 == last else f"{first}-{last}"
