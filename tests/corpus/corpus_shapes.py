"""The bodies that clients send: the same text in chat, completions, responses, Anthropic shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus_cases import Case, Item

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
_DEFAULT_ASK = "What do we know about it? Use the tools."


def body_of(case: Case, items: Sequence[Item]) -> dict[str, Any]:
    """Return the body of a request that holds these items."""
    if case.kind == "explicit":
        return {**_body(case, items), "contextpilot": {"contexts": [item.text for item in items]}}
    return _body(case, items)


def _body(case: Case, items: Sequence[Item]) -> dict[str, Any]:
    if case.api == "completions":
        return {"model": "m", "prompt": case.text(items), "max_tokens": 16}
    turns = [
        *_told(case, "before", items),
        *_placed(case, items),
        *_told(case, "after", items),
    ]
    system = case.filled("system", items)
    if str(case.spec.get("as", "user")) == "system":
        system = case.text(items)
    body: dict[str, Any] = {"model": "m"}
    if case.api == "messages":
        body |= {"max_tokens": 16} | ({"system": system} if system else {})
        return {**body, "messages": turns}
    if case.api == "responses":
        return {**body, **({"instructions": system} if system else {}), "input": turns}
    opening = [{"role": "system", "content": system}] if system else []
    return {**body, "messages": [*opening, *turns], **case.spec.get("members", {})}


def _told(case: Case, name: str, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return the turns before or after, as the case gives them; role "act" calls a tool."""
    turns: list[dict[str, Any]] = []
    for number, (role, template) in enumerate(case.spec.get(name, [])):
        text = case.told(template, items)
        if role == "act":
            turns += called(case.api, "act", "done", text, f"a{number}")
        else:
            turns.append({"role": role, "content": text})
    return turns


def _placed(case: Case, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return the messages that hold the text, and the question that led to it."""
    place = str(case.spec.get("as", "user"))
    ask = case.filled("ask", items) or case.question or _DEFAULT_ASK
    if case.kind == "explicit":
        return [{"role": "user", "content": ask}]
    if place == "user":
        return [{"role": "user", "content": case.text(items)}]
    if place == "system":
        return [{"role": "user", "content": ask}]
    if place == "parts":
        return [{"role": "user", "content": [*_parts(case, items), *_asked(case, items)]}]
    content: Any = _parts(case, items) if place == "tool_parts" else case.text(items)
    name = str(case.spec.get("tool", "search"))
    arguments = case.filled("arguments", items, "{}")
    return [{"role": "user", "content": ask}, *called(case.api, name, content, arguments)]


def _parts(case: Case, items: Sequence[Item]) -> list[Any]:
    return [json.loads(part) for part in case.wholes(items)]


def _asked(case: Case, items: Sequence[Item]) -> list[Any]:
    text = case.filled("tail", items, "$question")
    return [{"type": "text", "text": text}]


def called(
    api: str, name: str, content: Any, arguments: str = "{}", at: str = "c1"
) -> list[dict[str, Any]]:
    """Return a tool's call and its result."""
    if api == "messages":
        use = {"type": "tool_use", "id": at, "name": name, "input": json.loads(arguments)}
        result = {"type": "tool_result", "tool_use_id": at, "content": content}
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    if api == "responses":
        call = {"type": "function_call", "call_id": at, "name": name, "arguments": arguments}
        return [call, {"type": "function_call_output", "call_id": at, "output": content}]
    function = {"name": name, "arguments": arguments}
    call = {"id": at, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": at, "content": content},
    ]
