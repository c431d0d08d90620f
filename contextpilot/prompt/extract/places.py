"""Where blocks may stand in chat messages: texts, and runs of document parts.

Messages may be of the shape of OpenAI (Chat Completions, Responses) or Anthropic. What the
assistant said, and what is of no known shape, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from contextpilot.block import OVERHEAD_TOKENS
from contextpilot.images.sources import IMAGE_PARTS
from contextpilot.images.weights import GUESS_TOKENS
from contextpilot.prompt.extract.group import Path
from contextpilot.prompt.extract.images import ImageRun, image_runs
from contextpilot.prompt.extract.tools import (
    Call,
    ToolKind,
    action_of,
    calls,
    kind_of,
    own_name,
)
from contextpilot.tokens import text_tokens

Role: TypeAlias = Literal["system", "user", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "tool")

_ROLES: dict[Any, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "tool": "tool",
    "function": "tool",
}
_OUTPUT_TYPES = ("function_call_output", "custom_tool_call_output", "mcp_call")
_TEXT_TYPES = ("text", "input_text")
_DOCUMENT_TYPES = ("document", "search_result")
_FILE_TYPES = ("image_url", "image", "input_image", "input_audio", "file", "base64")
_OBSERVATION = re.compile(
    r"\s{0,8}\**(?:observation|tool (?:result|output|response)s?|i ran (?:this|the) command|"
    r"(?:code|command|terminal|shell|execution) (?:output|result)s?|stdout|"
    r"(?:output|results?) (?:of|from)(?: running)? [`'\"]?[\w.\-]{1,60}[`'\"]?(?: tool)?|"
    r"\[(?P<tool>[\w.\-]{1,60})(?: for [^\]\n]{0,200})?\] result)\**[ \t]{0,2}:",
    re.IGNORECASE,
)
"""How agents that write their calls as text hand over what came of them."""
_MAX_DEPTH = 12


class TextPlace(NamedTuple):
    """One text in which blocks may stand."""

    path: Path
    text: str
    role: Role
    tool: ToolKind = "unknown"


class PartsPlace(NamedTuple):
    """Items `begin .. end` of the list at `path`: documents or search results, nothing else.

    `cited`: something refers to one of them by its position.
    """

    path: Path
    begin: int
    end: int
    cited: bool = False


class ImagesPlace(NamedTuple):
    """A run of images in the list at `path`."""

    path: Path
    run: ImageRun
    tool: ToolKind = "unknown"


Place: TypeAlias = TextPlace | PartsPlace | ImagesPlace


class _Scope(NamedTuple):
    """Whose text is looked at, and what is known of the tools that were called."""

    role: Role
    roles: Collection[Role]
    calls: Mapping[str, Call]
    tool: ToolKind = "unknown"

    def result_of(self, key: Any, name: str | None = None) -> _Scope:
        """Return the scope of a tool's result."""
        call = self.calls.get(key) if isinstance(key, str) else None
        if call is None and name is not None:
            call = Call(name, None)
        return self._replace(role="tool", tool=kind_of(call))


def find_places(messages: Sequence[Any], roles: Collection[Role]) -> Iterator[Place]:
    """Yield the places of these roles, in prompt order."""
    scope = _Scope("tool", roles, calls(messages))
    action: Call | None = None
    for i, message in enumerate(messages):
        if not isinstance(message, (dict, Mapping)):
            continue
        kind = _hashable(message.get("type"))
        if kind in _OUTPUT_TYPES:
            result = scope.result_of(message.get("call_id"), own_name(message))
            yield from _within(message.get("output"), (i, "output"), result)
            continue
        role = _ROLES.get(_hashable(message.get("role")))
        action = action_of(message) if message.get("role") == "assistant" else action
        if role == "tool":
            result = scope.result_of(message.get("tool_call_id"), own_name(message))
            yield from _within(message.get("content"), (i, "content"), result)
        elif is_observation(message):
            result = scope._replace(tool=kind_of(_observed(message) or action))
            yield from _within(message.get("content"), (i, "content"), result)
        elif role is not None:
            yield from _within(message.get("content"), (i, "content"), scope._replace(role=role))


def is_observation(message: Any) -> bool:
    """Return whether a message of the user's role hands over what a tool returned."""
    if not isinstance(message, (dict, Mapping)) or message.get("role") != "user":
        return False
    return _OBSERVATION.match(_first_text(message)) is not None


def _observed(message: Mapping[str, Any]) -> Call | None:
    """Return the call that an observation names itself: `[read_file for 'a'] Result:`."""
    match = _OBSERVATION.match(_first_text(message))
    return Call(match["tool"], None) if match and match["tool"] else None


def _first_text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text")
    return content if isinstance(content, str) else ""


def plain_texts(message: Any) -> Iterator[tuple[Path, str]]:
    """Yield the texts of one message, tool results and the assistant's included, with paths."""
    if not isinstance(message, (dict, Mapping)):
        return
    content = message.get("content")
    if isinstance(content, str):
        yield ("content",), content
    elif isinstance(message.get("output"), str):
        yield ("output",), message["output"]
    for i, part in enumerate(content) if isinstance(content, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield ("content", i, "text"), part["text"]


def _within(content: Any, path: Path, scope: _Scope) -> Iterator[Place]:
    if isinstance(content, str):
        if scope.role in scope.roles:
            yield TextPlace(path, content, scope.role, scope.tool)
        return
    if not isinstance(content, list):
        return
    runs: dict[int, tuple[Place, int]] = {}
    if scope.role in scope.roles:
        runs = {run.begin: (run, run.end) for run in _runs(content, path)}
        for images in image_runs(content):
            tool = scope.tool if scope.role == "tool" else "unknown"
            runs[images.begin] = ImagesPlace(path, images, tool), images.end
    at = 0
    while at < len(content):
        if at in runs:
            place, at = runs[at]
            yield place
        else:
            yield from _part(content[at], (*path, at), scope)
            at += 1


def _part(part: Any, path: Path, scope: _Scope) -> Iterator[Place]:
    if not isinstance(part, Mapping):
        return
    kind = part.get("type")
    if kind in ("tool_result", "mcp_tool_result") and len(path) == 3:
        result = scope.result_of(part.get("tool_use_id"))
        yield from _within(part.get("content"), (*path, "content"), result)
    elif kind in _TEXT_TYPES and isinstance(part.get("text"), str) and scope.role in scope.roles:
        yield TextPlace((*path, "text"), part["text"], scope.role, scope.tool)


def _runs(parts: Sequence[Any], path: Path) -> Iterator[PartsPlace]:
    begin = 0
    while begin < len(parts):
        end = begin
        while end < len(parts) and _is_document(parts[end]):
            end += 1
        if end - begin > 1:
            cited = any(_is_cited(part) for part in parts[begin:end])
            yield PartsPlace(path, begin, end, cited)
        begin = end + 1


def _is_document(part: Any) -> bool:
    """Return whether a part is a readable document."""
    if not isinstance(part, Mapping) or part.get("type") not in _DOCUMENT_TYPES:
        return False
    return document_text(part) is not None


def _is_cited(part: Mapping[str, Any]) -> bool:
    """Return whether a part's position matters: citations count documents, a breakpoint marks "
    "one."""
    citations = part.get("citations")
    return "cache_control" in part or (
        isinstance(citations, Mapping) and bool(citations.get("enabled"))
    )


def document_text(part: Mapping[str, Any]) -> str | None:
    """Return the text of a document or search result part; None when it is not all text."""
    if part.get("type") == "search_result":
        return _joined(part.get("content"))
    source = part.get("source")
    if not isinstance(source, Mapping):
        return None
    if source.get("type") == "text":
        data = source.get("data")
        return data if isinstance(data, str) else None
    return _joined(source.get("content")) if source.get("type") == "content" else None


def with_document_text(part: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a document or search result part with another text."""
    if part["type"] == "search_result":
        return {**part, "content": [{"type": "text", "text": text}]}
    source = dict(part["source"])
    source["data" if source["type"] == "text" else "content"] = text
    return {**part, "source": source}


def _joined(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts = [_plain_text(part) for part in content]
    known = [text for text in texts if text is not None]
    return "\n".join(known) if len(known) == len(texts) else None


def _plain_text(part: Any) -> str | None:
    is_text = isinstance(part, Mapping) and part.get("type") == "text"
    if not is_text or "cache_control" in part:
        return None
    return part["text"] if isinstance(part.get("text"), str) else None


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str) else None


def count_tokens(node: Any, depth: int = 0) -> int:
    """Estimate the tokens of all texts in messages, and guess those of images."""
    if isinstance(node, str):
        return text_tokens(node)
    if depth > _MAX_DEPTH:
        return 0
    tokens = 0
    if isinstance(node, (dict, Mapping)):  # a dictionary is told at once, another mapping late
        if node.get("type") in _FILE_TYPES:
            return GUESS_TOKENS if node["type"] in IMAGE_PARTS else 0
        tokens, depth, node = OVERHEAD_TOKENS, depth + 1, node.values()
    elif not isinstance(node, (list, tuple)):
        return 0
    for item in node:
        tokens += text_tokens(item) if isinstance(item, str) else count_tokens(item, depth + 1)
    return tokens
