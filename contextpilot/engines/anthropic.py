"""Anthropic's API: prefixes are found again only where they ended at a `cache_control` breakpoint.

At most four of them may stand in a request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from contextpilot.engines.base import CloudKind, UsageNames

if TYPE_CHECKING:
    from contextpilot.plan.online import Head

Mark = dict[str, str]
MAX_BREAKPOINTS = 4
_BREAKPOINT = {"type": "ephemeral"}
_LONG_BREAKPOINT = {"type": "ephemeral", "ttl": "1h"}
_ASKS_FOR_HOUR = re.compile(rb'"ttl"\s*:\s*"1h"')
"""In a body: a quote inside a JSON text is escaped."""
_MARKABLE = ("text", "image", "document", "tool_result", "tool_use", "search_result")


class Anthropic(CloudKind):
    """The cloud, and gateways in front of it."""

    name = "anthropic"
    title = "Anthropic"
    hosts = ("api.anthropic.com",)
    paths = ("anthropic",)
    key_header = (b"x-api-key", b"")
    usage = UsageNames(
        prompt=("input_tokens",),
        cached_apart=("cache_read_input_tokens",),
        written=("cache_creation_input_tokens",),
        written_long=("ephemeral_1h_input_tokens",),
        generated=("output_tokens",),
    )

    def with_cache_marks(
        self,
        body: dict[str, Any],
        namespace: str,
        head: Head,
        cuts: Sequence[int] = (),
        *,
        long: bool = False,
    ) -> dict[str, Any]:
        """Return the body with breakpoints: system prompt, cuts, and the last message."""
        if "messages" not in body or _mentions(body, "cache_control"):
            return body
        return _with_breakpoints(body, cuts, _mark(long))

    def with_recurring_marks(
        self, body: dict[str, Any], has_opening: bool, num_turns: int, *, long: bool = False
    ) -> dict[str, Any]:
        """Return the body with breakpoints: tools or system prompt, where it goes on, and its end.

        A conversation that goes on once will go on again, so its newest message is marked; the last
        message that was sent before is, too, since a prefix is looked for only some way back.
        """
        messages = body.get("messages")
        if not isinstance(messages, list) or _mentions(body, "cache_control"):
            return body
        mark = _mark(long)
        changed = _with_marked_opening(body, mark) if has_opening else dict(body)
        if num_turns:
            places = {num_turns - 1, len(messages) - 1}
            changed["messages"] = [
                _marked_message(message, mark) if place in places else message
                for place, message in enumerate(messages)
            ]
        return changed

    def retention_s(self, body: bytes) -> float:
        """Return 3600 for a request with a breakpoint of an hour, else 0: those of 5 minutes."""
        return 3600.0 if _ASKS_FOR_HOUR.search(body) else 0.0


def _mark(long: bool) -> Mark:
    return _LONG_BREAKPOINT if long else _BREAKPOINT


def _with_marked_opening(body: dict[str, Any], mark: Mark) -> dict[str, Any]:
    system = _marked(body.get("system"), mark)
    if system is not None:
        return {**body, "system": system}
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools or not isinstance(tools[-1], dict):
        return dict(body)
    return {**body, "tools": [*tools[:-1], {**tools[-1], "cache_control": mark}]}


def _marked_message(message: Any, mark: Mark) -> Any:
    content = _marked(message.get("content"), mark) if isinstance(message, dict) else None
    return message if content is None else {**message, "content": content}


def _mentions(node: Any, name: str) -> bool:
    """Return whether an object anywhere in `node` has a member of this name."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            if name in node:
                return True
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return False


def _with_breakpoints(body: dict[str, Any], cuts: Sequence[int], mark: Mark) -> dict[str, Any]:
    """Mark the system prompt, the cuts, and the last message, while breakpoints are left."""
    left = MAX_BREAKPOINTS
    changed = dict(body)
    system = _marked(body.get("system"), mark)
    if system is not None:
        changed["system"] = system
        left -= 1
    messages = body["messages"]
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return changed
    content = _split(messages[-1].get("content"), cuts[: left - 1], mark)
    marked = _marked(content, mark)
    if marked is not None:
        changed["messages"] = [*messages[:-1], {**messages[-1], "content": marked}]
    return changed


def _split(content: Any, cuts: Sequence[int], mark: Mark) -> Any:
    """Return a text as parts that end, marked, at the cuts; anything else as it is."""
    places = sorted({cut for cut in cuts if isinstance(content, str) and 0 < cut < len(content)})
    if not places:
        return content
    bounds = [0, *places, len(content)]
    parts = [_text(content[a:b]) for a, b in pairwise(bounds)]
    return [{**part, "cache_control": mark} for part in parts[:-1]] + parts[-1:]


def _marked(content: Any, mark: Mark) -> list[Any] | None:
    """Return content with its last part marked; None when that cannot be."""
    if isinstance(content, str) and content:
        content = [_text(content)]
    if not isinstance(content, list) or not content or not isinstance(content[-1], dict):
        return None
    last = content[-1]
    if last.get("type") not in _MARKABLE or last.get("text") == "":
        return None
    return [*content[:-1], {**last, "cache_control": mark}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


ENGINE = Anthropic()
