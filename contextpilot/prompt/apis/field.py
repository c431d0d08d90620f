"""The body's own field `contextpilot`: blocks that the caller hands over as blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

FIELD = "contextpilot"


class FieldError(ValueError):
    """A part of the field is at fault; `field` is its path in the body."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


@dataclass(frozen=True)
class ContextField:
    """What the field may hold.

    Attributes:
        contexts: the blocks of this one request, most relevant first.
        query: the question written after them. Without it, or where it says the same, the text of
            the last user message is the question, and that message is rewritten.
        conversation: records the blocks, for `POST /deduplicate`.
        namespace: narrows the tenant's namespace.
        options: as in `contextpilot.options.Options`, by name.
    """

    contexts: list[Any]
    query: str | None = None
    conversation: str | None = None
    namespace: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def parse_field(body: Mapping[str, Any]) -> ContextField | None:
    """Return the field of a body, None when absent; raise FieldError when it is malformed."""
    if FIELD not in body:
        return None
    content = body[FIELD]
    if not isinstance(content, dict):
        raise FieldError(FIELD, "must be an object")
    known = [item.name for item in fields(ContextField)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise FieldError(f"{FIELD}.{unknown[0]}", f"is unknown; known are {', '.join(known)}")
    if not isinstance(content.get("contexts"), list):
        raise FieldError(f"{FIELD}.contexts", "must be a list of blocks")
    for name in ("query", "conversation", "namespace"):
        if not isinstance(content.get(name), (str, type(None))):
            raise FieldError(f"{FIELD}.{name}", "must be a string")
    if not isinstance(content.get("options", {}), dict):
        raise FieldError(f"{FIELD}.options", "must be an object")
    return ContextField(**content)
