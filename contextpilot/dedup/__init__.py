"""Deduplication: whole blocks within a conversation, repeated runs of lines within a prompt."""

from .messages import DEFAULT_MIN_CHARS, deduplicate_messages
from .report import DedupReport, Origin, Replacement

__all__ = ["DEFAULT_MIN_CHARS", "DedupReport", "Origin", "Replacement", "deduplicate_messages"]
