"""What nothing is known of: an engine that could not be told, or something in front of engines."""

from __future__ import annotations

from contextpilot.engines.base import EngineKind


class Other(EngineKind):
    """All defaults: no member is added, nothing is asked."""


ENGINE = Other()
