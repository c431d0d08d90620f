"""Where tool results and documents stand in chat messages, and how to put other text there.

- OpenAI Chat Completions: the `content` of roles `tool` and `function`, a string or text parts.
- OpenAI Responses: the `output` of items of type `function_call_output`.
- Anthropic Messages: `tool_result` blocks that hold a string, or text, `document` and
  `search_result` blocks; `document` (sources `text` and `content`) and `search_result` blocks.

All else (system, user and assistant text, images, files, tool calls) is never touched.
Text with `citations` enabled is read but not rewritten: citations point into it by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["tool result", "document"]
Path = tuple[str | int, ...]

_TOOL_ROLES = ("tool", "function")
_UNTOUCHED_ROLES = ("system", "developer", "assistant")
_BLOCK_KINDS: dict[Any, Kind] = {
    "tool_result": "tool result",
    "document": "document",
    "search_result": "document",
}


class Slot(NamedTuple):
    """One text: `messages[path[0]][path[1]]...`; several may belong to tool result `ordinal`."""

    path: Path
    text: str
    kind: Kind
    ordinal: int
    read_only: bool


def find_slots(messages: Sequence[Any]) -> list[Slot]:
    """The eligible texts in prompt order; tool results and documents count from 1.

    Raises TypeError, naming the place, where a message or its content has no known shape.
    """
    return [
        Slot(where, text, kind, ordinal, read_only)
        for ordinal, (path, kind, holder) in enumerate(_results(messages), start=1)
        for where, text, read_only in _texts(holder, path, read_only=False)
    ]


def text_at(messages: Sequence[Any], path: Path) -> str:
    """Raises ValueError if there is no text at `path`."""
    node: Any = messages
    try:
        for step in path:
            node = node[step]
    except (LookupError, TypeError):
        node = None
    if not isinstance(node, str):
        raise ValueError(f"messages must hold a text at {describe(path)}")
    return node


def with_texts(messages: Sequence[Any], texts: Mapping[Path, str]) -> list[Any]:
    """A copy with `texts` in place; containers on the way are copied, all else is the same."""
    changed: list[Any] = _rebuilt(list(messages), texts)
    return changed


def describe(path: Path) -> str:
    return "messages" + "".join(f"[{step!r}]" for step in path)


def _rebuilt(node: Any, texts: Mapping[Path, str]) -> Any:
    if () in texts:
        return texts[()]
    steps: dict[str | int, dict[Path, str]] = {}
    for path, text in texts.items():
        steps.setdefault(path[0], {})[path[1:]] = text
    copy: Any = dict(node) if isinstance(node, Mapping) else list(node)
    for step, below in steps.items():
        copy[step] = _rebuilt(node[step], below)
    return tuple(copy) if isinstance(node, tuple) else copy


def _results(messages: Sequence[Any]) -> Iterator[tuple[Path, Kind, Any]]:
    """Every tool result and document: where it is, its kind, and what it holds."""
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            _require_message(message, index)
            continue
        role = message.get("role")
        if role in _TOOL_ROLES:
            yield (index, "content"), "tool result", message.get("content")
        elif message.get("type") == "function_call_output":
            yield (index, "output"), "tool result", message.get("output")
        elif role not in _UNTOUCHED_ROLES:
            yield from _blocks(message.get("content"), (index, "content"))


def _blocks(content: Any, path: Path) -> Iterator[tuple[Path, Kind, Any]]:
    if not isinstance(content, list | tuple):
        return
    for index, block in enumerate(content):
        kind = _BLOCK_KINDS.get(block.get("type")) if isinstance(block, Mapping) else None
        if kind == "tool result":
            yield (*path, index, "content"), kind, block.get("content")
        elif kind:
            yield (*path, index), kind, block


def _texts(holder: Any, path: Path, *, read_only: bool) -> Iterator[tuple[Path, str, bool]]:
    """The texts in a string, a block or a list of both: path, text, read-only."""
    if isinstance(holder, str):
        yield path, holder, read_only
    elif isinstance(holder, list | tuple):
        for index, part in enumerate(holder):
            yield from _texts(part, (*path, index), read_only=read_only)
    elif isinstance(holder, Mapping):
        yield from _block_texts(holder, path, read_only=read_only)
    elif holder is not None:
        raise TypeError(
            f"{describe(path)} must be a string, a list of parts or None, "
            f"not {type(holder).__name__}"
        )


def _block_texts(
    block: Mapping[str, Any], path: Path, *, read_only: bool
) -> Iterator[tuple[Path, str, bool]]:
    block_type = block.get("type")
    read_only = read_only or _cited(block)
    if block_type in ("text", "input_text", "output_text"):
        yield from _texts(block.get("text"), (*path, "text"), read_only=read_only)
    elif block_type == "search_result":
        yield from _texts(block.get("content"), (*path, "content"), read_only=read_only)
    elif block_type == "document" and isinstance(block.get("source"), Mapping):
        # base64, url and file sources have no text that we could read.
        field = {"text": "data", "content": "content"}.get(block["source"].get("type"))
        if field:
            where = (*path, "source", field)
            yield from _texts(block["source"].get(field), where, read_only=read_only)


def _cited(block: Mapping[str, Any]) -> bool:
    citations = block.get("citations")
    return isinstance(citations, Mapping) and bool(citations.get("enabled"))


def _require_message(message: Any, index: int) -> None:
    # Message objects of client libraries (an assistant's reply, appended as it came) pass through.
    if not hasattr(message, "role") and not hasattr(message, "type"):
        raise TypeError(
            f"messages[{index}] must be a mapping with a 'role', not {type(message).__name__}"
        )
