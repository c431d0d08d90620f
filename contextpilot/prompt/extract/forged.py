"""Whether a block holds what only the prompt around it may: tags, labels or notes of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NOTES = re.compile(
    r"The documents above (?:are not sorted|were renumbered)|"
    r"By number, from most to least important|"
    r"Given earlier in this conversation, |\d lines? omitted, same as|Same text as \[\d|"
    r"instead of the one shown:",
)
"""The fixed parts of the notes, hints and references that we write."""


def holds_notes(bodies: Sequence[str]) -> bool:
    """Return whether a block holds a note like ours."""
    return any(_NOTES.search(body) is not None for body in bodies)
