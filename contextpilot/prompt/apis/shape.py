"""What the proxy needs to know of an API: where its messages are, and how its errors look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.prompt.apis.splice import dump
from contextpilot.prompt.messages import Message

_ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class Shape:
    """An API whose requests carry messages; the base class speaks OpenAI's errors."""

    name = "other"

    def opening(self, body: Mapping[str, Any]) -> list[Message]:
        """Return what the prompt holds before the messages, as messages: tools, instructions."""
        tools = body.get("tools")
        return [{"role": "tools", "content": dump(tools)}] if tools else []

    def turns(self, body: Mapping[str, Any]) -> list[Message]:
        """Return the messages of a request, the very objects; none when there are none to plan."""
        raise NotImplementedError

    def with_turns(self, body: Mapping[str, Any], turns: Sequence[Message]) -> dict[str, Any]:
        """Return the body with these messages in the place of its own."""
        raise NotImplementedError

    def searched(self, body: Mapping[str, Any]) -> list[Message]:
        """Return the messages in which blocks are looked for."""
        return self.turns(body)

    def unsearched(self, body: Mapping[str, Any]) -> list[Message]:
        """Return what the prompt holds before the messages that are searched."""
        return self.opening(body)

    def with_searched(self, body: Mapping[str, Any], messages: Sequence[Message]) -> dict[str, Any]:
        """Return the body with these messages in the place of those that were searched."""
        return self.with_turns(body, messages)

    def error(self, status: int, message: str, field: str | None = None) -> dict[str, Any]:
        """Return the JSON of an error as this API writes it."""
        error = {"message": message, "type": _error_type(status), "param": field, "code": None}
        return {"error": error}


def message_list(body: Mapping[str, Any], field: str) -> list[Message]:
    """Return the list of objects in a field; empty when it is anything else."""
    items = body.get(field)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return []
    return items


def _error_type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return _ERROR_TYPES.get(status, "invalid_request_error")
