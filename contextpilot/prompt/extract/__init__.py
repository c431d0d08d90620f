"""Blocks found in chat messages, and the same messages with these blocks in another order."""

from contextpilot.prompt.extract.extraction import (
    MODES,
    SCOPES,
    Arrangement,
    Extraction,
    extract_blocks,
)
from contextpilot.prompt.extract.group import LABELS, Group

__all__ = [
    "LABELS",
    "MODES",
    "SCOPES",
    "Arrangement",
    "Extraction",
    "Group",
    "extract_blocks",
]
