"""Which source a reporter is: by the kind of engine that it speaks for."""

from __future__ import annotations

from contextpilot.sync.events import SLOT_ENGINE
from contextpilot.sync.sources.base import Source
from contextpilot.sync.sources.llama_slots import SlotTranslator
from contextpilot.sync.sources.request_events import RequestEvents

SOURCES: dict[str, type[Source]] = {SLOT_ENGINE: SlotTranslator}
"""By the kind that a message names; all others name requests."""


def source_of_kind(kind: object) -> type[Source]:
    """Return the source of a reporter whose messages name this kind of engine."""
    return SOURCES.get(kind, RequestEvents) if isinstance(kind, str) else RequestEvents
