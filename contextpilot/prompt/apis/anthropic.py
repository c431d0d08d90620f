"""Anthropic's request shape: messages, with the system prompt beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.prompt.apis.shape import Shape, message_list
from contextpilot.prompt.messages import Message

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicMessages(Shape):
    """POST /v1/messages."""

    name = "messages"

    def opening(self, body: Mapping[str, Any]) -> list[Message]:
        before = super().opening(body)
        if _system(body):
            before.append({"role": "system", "content": body["system"]})
        return before

    def turns(self, body: Mapping[str, Any]) -> list[Message]:
        return message_list(body, "messages")

    def with_turns(self, body: Mapping[str, Any], turns: Sequence[Message]) -> dict[str, Any]:
        return {**body, "messages": list(turns)}

    def searched(self, body: Mapping[str, Any]) -> list[Message]:
        turns = self.turns(body)
        return [{"role": "system", "content": body["system"]}, *turns] if _system(body) else turns

    def unsearched(self, body: Mapping[str, Any]) -> list[Message]:
        return super().opening(body)

    def with_searched(self, body: Mapping[str, Any], messages: Sequence[Message]) -> dict[str, Any]:
        if not _system(body):
            return self.with_turns(body, messages)
        return {**self.with_turns(body, messages[1:]), "system": messages[0]["content"]}

    def error(self, status: int, message: str, field: str | None = None) -> dict[str, Any]:
        default = "api_error" if status >= 500 else "invalid_request_error"
        kind = _ERROR_TYPES.get(status, default)
        text = f"{field}: {message}" if field and field not in message else message
        return {"type": "error", "error": {"type": kind, "message": text}}


def _system(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("system"), (str, list)) and bool(body["system"])
