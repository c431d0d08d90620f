"""Reporters that name requests and count their tokens: the hooks inside vLLM and SGLang."""

from __future__ import annotations

from collections.abc import Iterable

from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.sources.base import Source


class RequestEvents(Source):
    """Takes events as they are: each says what is left of one request."""

    def read(self, message: SyncMessage) -> Iterable[Event]:
        """Return the message's events."""
        self.num_cuts += sum(event.kind in ("truncated", "cleared") for event in message.events)
        return message.events
