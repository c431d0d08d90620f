"""What a tool does, by its name and the arguments of its call: search, read, run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from contextpilot.prompt.extract.arrays import is_sorted_by
from contextpilot.prompt.extract.scan import LinePattern
from contextpilot.prompt.extract.vocabulary import (
    NO_DOCUMENT_WORDS,
    PLACE_ARGUMENTS,
    READ_WORDS,
    RUN_WORDS,
    SEARCH_ARGUMENTS,
    SEARCH_WORDS,
    WEAK_WORDS,
)

ToolKind: TypeAlias = Literal["search", "reads", "runs", "prints", "sequence", "unknown"]
AGAINST: dict[ToolKind, str] = {
    "reads": "file",
    "runs": "command-output",
    "prints": "command-output",
    "sequence": "sequence-tool",
}
"""The rule that keeps whatever a tool of this kind returned as it is."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PRINTING_COMMAND = re.compile(
    r"(?:^|[\s;&|/])(?:cat|sed|awk|head|tail|less|more|grep|rg|ag|find|ls|git|psql|"
    r"sqlite3?)(?:\s|$)"
)
_QUERY_LANGUAGE = re.compile(
    r"\s*(?:select|with|insert|update|delete|show|describe|match|from|prefix|query|mutation)\b|"
    r"\s*[{\[]|"
    r".*\border ?by\b",
    re.IGNORECASE | re.DOTALL,
)
_ACTION = LinePattern(
    r"[ \t*]{0,4}(?:Action|Tool)[ *]{0,3}:[ \t*]{0,4}([\w.\-]{1,80})"
    r"(?:[^\n]{0,40}\n[ \t*]{0,4}(?:Action|Tool) Input[ *]{0,3}:[ \t]{0,4}([^\n]{0,4000}))?"
)
_NAMES = ("name", "tool_name", "tool")
_MAX_ARGUMENTS = 1 << 16


class Call(NamedTuple):
    """One call of a tool; its arguments as JSON text, or parsed."""

    name: str
    arguments: Any


def calls(messages: Sequence[Any]) -> dict[str, Call]:
    """Return the calls in chat messages by their ids, whatever the API."""
    found = {}
    for message in messages:
        if isinstance(message, (dict, Mapping)):
            for key, name, arguments in _calls_of(message):
                if isinstance(key, str) and isinstance(name, str):
                    found[key] = Call(name, arguments)
    return found


def kind_of(call: Call | None) -> ToolKind:
    """Return what the tool of a call does; "unknown" when nothing says."""
    if call is None:
        return "unknown"
    words = {word.lower() for word in _WORD.findall(call.name)}
    arguments = _parsed(call.arguments)
    searches = bool(words & SEARCH_WORDS)
    if words & READ_WORDS:
        return "unknown" if searches and words & READ_WORDS == {"files"} else "reads"
    if words & RUN_WORDS or (words & WEAK_WORDS and not searches):
        return _kind_of_command(arguments)
    sorts = any(isinstance(v, str) and is_sorted_by(str(k), v) for k, v in arguments.items())
    if words & NO_DOCUMENT_WORDS or sorts:
        return "sequence"
    if searches or _asks_in_words(arguments):
        return "search"
    return "reads" if PLACE_ARGUMENTS & arguments.keys() else "unknown"


def _calls_of(message: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    kind = message.get("type")
    if kind in ("function_call", "custom_tool_call"):
        arguments = message.get("arguments", message.get("input"))
        yield message.get("call_id"), message.get("name"), arguments
    for call in _each(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, Mapping):
            yield call.get("id"), function.get("name"), function.get("arguments")
    for part in _each(message.get("content")):
        if part.get("type") in ("tool_use", "server_tool_use", "mcp_tool_use"):
            yield part.get("id"), part.get("name"), part.get("input")


def action_of(message: Mapping[str, Any]) -> Call | None:
    """Return the call that an agent writes as text: `Action: search`, `Action Input: port`."""
    texts = [message.get("content"), *(part.get("text") for part in _each(message.get("content")))]
    for text in texts:
        named = _ACTION.search(text, 0, len(text)) if isinstance(text, str) else None
        if named is not None:
            return Call(named[1], named[2])
    return None


def _each(items: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(items, list):
        yield from (item for item in items if isinstance(item, Mapping))


def asked_words(call: Call) -> str:
    """Return the texts among the arguments of a call: in what words it asked."""
    if isinstance(call.arguments, str) and not _parsed(call.arguments):
        return call.arguments
    return " ".join(text for text in _parsed(call.arguments).values() if isinstance(text, str))


def own_name(message: Mapping[str, Any]) -> str | None:
    """Return the name of the tool that a result itself gives."""
    return next((message[key] for key in _NAMES if isinstance(message.get(key), str)), None)


def _parsed(arguments: Any) -> Mapping[str, Any]:
    if isinstance(arguments, str) and len(arguments) < _MAX_ARGUMENTS:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, Mapping) else {}


def _kind_of_command(arguments: Mapping[str, Any]) -> ToolKind:
    """Return whether a command prints files, or is another."""
    for key in ("cmd", "command", "script", "input"):
        command = arguments.get(key)
        text = " ".join(map(str, command)) if isinstance(command, list) else command
        if isinstance(text, str) and _PRINTING_COMMAND.search(text):
            return "prints"
    return "runs"


def _asks_in_words(arguments: Mapping[str, Any]) -> bool:
    if PLACE_ARGUMENTS & arguments.keys():
        return False
    asked = [arguments[key] for key in SEARCH_ARGUMENTS & arguments.keys()]
    return any(
        isinstance(text, str) and text.strip() and not _QUERY_LANGUAGE.match(text) for text in asked
    )
