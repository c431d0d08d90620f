"""ContextPilot orders, deduplicates, annotates and schedules prompt context for prefix caches.

    import contextpilot as cp

    pilot = cp.ContextPilot()
    messages = pilot.optimize(["first block", "second block"], "the question")

Importing this package costs next to nothing: names load on first use.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # importing typing would cost ten times the rest
if TYPE_CHECKING:
    from contextpilot.awaited import AsyncContextPilot
    from contextpilot.dedup.messages import deduplicate_messages
    from contextpilot.default import optimize, optimize_batch, rewrite
    from contextpilot.errors import ContextPilotError, UnknownConversationError
    from contextpilot.images.image import Image, frames
    from contextpilot.pilot import ContextPilot
    from contextpilot.stream import plan_stream

__version__ = "0.1.0"

__all__ = [
    "AsyncContextPilot",
    "ContextPilot",
    "ContextPilotError",
    "Image",
    "UnknownConversationError",
    "deduplicate_messages",
    "frames",
    "optimize",
    "optimize_batch",
    "plan_stream",
    "rewrite",
]

_HOMES = {
    "AsyncContextPilot": "contextpilot.awaited",
    "ContextPilot": "contextpilot.pilot",
    "ContextPilotError": "contextpilot.errors",
    "UnknownConversationError": "contextpilot.errors",
    "Image": "contextpilot.images.image",
    "deduplicate_messages": "contextpilot.dedup.messages",
    "frames": "contextpilot.images.image",
    "optimize": "contextpilot.default",
    "optimize_batch": "contextpilot.default",
    "plan_stream": "contextpilot.stream",
    "rewrite": "contextpilot.default",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
