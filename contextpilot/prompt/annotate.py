"""The importance ranking written after reordered blocks, so the model still knows it."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

RANKING_TEMPLATE = (
    "The documents above are not sorted by importance. "
    "From most to least important, they are: {ranking}."
)


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

    `order[p]` is the original rank of the block at position p; the text names positions from 1.
    """
    by_rank = sorted(range(len(order)), key=order.__getitem__)
    if by_rank == list(range(len(order))):
        return ""
    ranking = " > ".join([f"[{position + 1}]" for position in by_rank])
    return template.format(ranking=ranking)
