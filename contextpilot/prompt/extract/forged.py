"""Whether a block holds what only the prompt around it may: notes, hints or references of ours."""

from __future__ import annotations

from collections.abc import Sequence

_NOTES = (
    "The documents above are not sorted",
    "The documents above were renumbered",
    "By number, from most to least important",
    "Given earlier in this conversation",
    " omitted, same as ",
    "Same text as [",
    "instead of the one shown:",
    "(Numbered originally: ",
)
"""The fixed parts of the notes, hints and references that we write."""


def holds_notes(bodies: Sequence[str]) -> bool:
    """Return whether a block holds a note like ours."""
    return any(note in body for body in bodies for note in _NOTES)
