"""Where texts stand in chat messages, whose they are, and how to put other text there.

Rewritten may be:

- OpenAI Chat Completions: the `content` of roles `tool` and `function`, a string or text parts.
- OpenAI Responses: what the items of `_OUTPUT_TYPES` returned, `mcp_call` too.
- Anthropic Messages: `tool_result` blocks that hold a string, or text, `document` and
  `search_result` blocks; `document` (sources `text` and `content`) and `search_result` blocks.
- Agents that hand results over as user messages: those that begin with `Observation:`, and with
  `<returncode>` and `<output>`.

What the system, the user and the assistant said is read, to be named elsewhere, and never
rewritten. Text with `citations` enabled is read too: citations point into it by position. Images,
files and the arguments of calls are not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .trust import ASSISTANT, USER, ToolCalls, tool_trust

Kind = Literal["tool result", "document", "system message", "user message", "assistant message"]
Path = tuple[str | int, ...]

_TOOL_ROLES = ("tool", "function")
_SPEAKERS: dict[Any, tuple[Kind, str]] = {
    "system": ("system message", USER),
    "developer": ("system message", USER),
    "assistant": ("assistant message", ASSISTANT),
    "user": ("user message", USER),
}
_OUTPUT_TYPES = (
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)
_DOCUMENT_TYPES = ("document", "search_result")
_TEXT_TYPES = ("text", "input_text", "output_text")
_OBSERVATION = re.compile(r"\s*(?:Observation:|<returncode>-?\d+</returncode>\s*<output>)")
_OBSERVATION_TRUST = tool_trust("observation")


class Slot(NamedTuple):
    """One text: `messages[path[0]][path[1]]...`.

    It is the `ordinal`-th of its kind, or one of its texts if it has several, and not `is_alone`.
    `trust` is its class. What is of one `unit` was given at once, and never names itself.
    """

    path: Path
    text: str
    kind: Kind
    ordinal: int
    unit: int
    trust: str
    can_change: bool
    is_alone: bool = True


class _Thing(NamedTuple):
    """What was said or given, before its texts are looked up."""

    path: Path
    holder: Any
    kind: Kind
    trust: str
    can_change: bool
    is_strict: bool = False


def find_slots(messages: Sequence[Any]) -> list[Slot]:
    """The texts in prompt order; the things of each kind count from 1.

    Raises TypeError, naming the place, where a message or a tool's result has no known shape.
    """
    slots: list[Slot] = []
    numbers: Counter[str] = Counter()
    unit, at, was_result = 0, -1, False
    for thing in _things(messages):
        is_result = thing.kind == "tool result"
        if is_result or was_result or thing.path[0] != at:
            unit += 1
        at, was_result = int(thing.path[0]), is_result
        numbers[thing.kind] += 1
        texts = list(_texts(thing.holder, thing.path, thing.can_change, thing.is_strict))
        slots += [
            Slot(
                path=path,
                text=text,
                kind=thing.kind,
                ordinal=numbers[thing.kind],
                unit=unit,
                trust=thing.trust,
                can_change=can_change,
                is_alone=len(texts) == 1 and thing.is_strict,
            )
            for path, text, can_change in texts
        ]
    return slots


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


def _things(messages: Sequence[Any]) -> Iterator[_Thing]:
    """Everything that was said or given, in prompt order."""
    calls = ToolCalls()
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            _require_message(message, index)
            continue
        role, kind = message.get("role"), message.get("type")
        calls.note(message)
        if role in _TOOL_ROLES:
            trust = calls.trust(message.get("tool_call_id"), message.get("name"))
            yield _result((index, "content"), message.get("content"), trust)
        elif kind in _OUTPUT_TYPES:
            trust = calls.trust(message.get("call_id"))
            yield _result((index, "output"), message.get("output"), trust)
        elif kind == "mcp_call":
            name = f"{message.get('server_label')}.{message.get('name')}"
            yield _result((index, "output"), message.get("output"), tool_trust(name))
        elif isinstance(role, str) and role in _SPEAKERS:
            yield from _said(message.get("content"), (index, "content"), role, calls)


def _result(path: Path, holder: Any, trust: str) -> _Thing:
    return _Thing(path, holder, "tool result", trust, can_change=True, is_strict=True)


def _said(content: Any, path: Path, role: str, calls: ToolCalls) -> Iterator[_Thing]:
    """What a speaker said, and the results and documents in between."""
    kind, trust = _SPEAKERS[role]
    if isinstance(content, str):
        content = [content]
        paths: list[Path] = [path]
    elif isinstance(content, list | tuple):
        paths = [(*path, at) for at in range(len(content))]
    else:
        return
    for where, part in zip(paths, content, strict=True):
        given = part.get("type") if isinstance(part, Mapping) else None
        if given == "tool_result":
            own = calls.trust(part.get("tool_use_id"))
            yield _result((*where, "content"), part.get("content"), own)
        elif given in _DOCUMENT_TYPES:
            yield _Thing(where, part, "document", USER, can_change=True, is_strict=True)
        elif role == "user" and _is_observation(part):
            yield _Thing(where, part, "tool result", _OBSERVATION_TRUST, can_change=True)
        else:
            yield _Thing(where, part, kind, trust, can_change=False)


def _is_observation(part: Any) -> bool:
    text = part.get("text") if isinstance(part, Mapping) else part
    return isinstance(text, str) and _OBSERVATION.match(text) is not None


def _texts(
    holder: Any, path: Path, can_change: bool, is_strict: bool
) -> Iterator[tuple[Path, str, bool]]:
    """The texts in a string, a block or a list of both: path, text, whether it can change."""
    if isinstance(holder, str):
        yield path, holder, can_change
    elif isinstance(holder, list | tuple):
        for index, part in enumerate(holder):
            yield from _texts(part, (*path, index), can_change, is_strict)
    elif isinstance(holder, Mapping):
        yield from _block_texts(holder, path, can_change, is_strict)
    elif holder is not None and is_strict:
        raise TypeError(
            f"{describe(path)} must be a string, a list of parts or None, "
            f"not {type(holder).__name__}"
        )


def _block_texts(
    block: Mapping[str, Any], path: Path, can_change: bool, is_strict: bool
) -> Iterator[tuple[Path, str, bool]]:
    block_type = block.get("type")
    can_change = can_change and not _cited(block)
    if block_type in _TEXT_TYPES:
        names: tuple[str, ...] = ("text",)
    elif block_type == "search_result":
        names = ("content",)
    elif block_type is None:  # what a shell printed
        names = tuple(name for name in ("stdout", "stderr") if isinstance(block.get(name), str))
    elif block_type == "document" and isinstance(block.get("source"), Mapping):
        # base64, url and file sources have no text that we could read.
        name = {"text": "data", "content": "content"}.get(block["source"].get("type"))
        names, block, path = ((name,) if name else ()), block["source"], (*path, "source")
    else:
        return
    for name in names:
        yield from _texts(block.get(name), (*path, name), can_change, is_strict)


def _cited(block: Mapping[str, Any]) -> bool:
    citations = block.get("citations")
    return isinstance(citations, Mapping) and bool(citations.get("enabled"))


def _require_message(message: Any, index: int) -> None:
    # Message objects of client libraries (an assistant's reply, appended as it came) pass through.
    if not hasattr(message, "role") and not hasattr(message, "type"):
        raise TypeError(
            f"messages[{index}] must be a mapping with a 'role', not {type(message).__name__}"
        )
