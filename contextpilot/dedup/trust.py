"""Whose word a text is: what stands in one place may be named in another only if it can be trusted
as much there.

| class | texts | may be named by |
|---|---|---|
| `user` | system and developer prompts, user messages, documents in them | all |
| `assistant` | what the model said | all tools |
| `workspace` | results of tools that read files and run commands in one place | each other |
| `tool NAME` | results of any other tool, and of commands that fetch | the same tool |

A web page that holds the company's policy, framed by "the opposite is true", so never stands for
the policy itself when another tool returns that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

USER = "user"
ASSISTANT = "assistant"
WORKSPACE = "workspace"

# fmt: off
WORKSPACE_TOOLS = frozenset({
    "applydiff", "applypatch", "bash", "cat", "codebasesearch", "codesearch", "commandline",
    "createfile", "edit", "editfile", "exec", "execcommand", "executebash", "executecommand",
    "executeshell", "fileread", "findfiles", "gitdiff", "gitlog", "gitshow", "gitstatus", "glob",
    "globtool", "grep", "greptool", "head", "listdir", "listdirectory", "listfiles", "localshell",
    "ls", "multiedit", "openfile", "patch", "read", "readfile", "readfiles", "readmanyfiles",
    "replaceinfile", "rg", "ripgrep", "runcommand", "runinterminal", "runshell", "runshellcommand",
    "runterminalcmd", "searchfilecontent", "searchfiles", "sh", "shell", "shellcommand",
    "strreplace", "strreplacebasededittool", "strreplaceeditor", "tail", "terminal", "texteditor",
    "view", "viewfile", "viewrange", "write", "writefile",
})
# fmt: on
"""Names of tools that work on one machine's files, in lower case without separators."""

_FETCHES = re.compile(r"https?://|\b(?:curl|wget|lynx|ssh|scp|sftp|telnet|netcat)\b")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_FIRST_LETTERS = re.compile(r"[A-Za-z]*")
_CALL_TYPES = frozenset({"function_call", "custom_tool_call", "local_shell_call", "shell_call"})


def sources_for(trust: str) -> tuple[str, ...]:
    """The classes that a text of this class may name."""
    if trust == USER:
        return (USER,)
    return (USER, ASSISTANT, trust)


def tool_trust(name: str | None, arguments: str = "", call_id: str = "") -> str:
    """The class of a tool's result; a call that is not in the prompt is told by its id's letters.

    Ids count or are random, so only the letters that they begin with can tell tools apart.
    """
    if name is None:
        return f"call {_letters(call_id)}"
    plain = _NOT_LETTERS.sub("", name.lower())
    if plain not in WORKSPACE_TOOLS:
        return f"tool {name}"
    return f"tool {name} fetching" if _FETCHES.search(arguments) else WORKSPACE


class ToolCalls:
    """The calls of a prompt by id, to tell whose result a text is."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def note(self, message: Mapping[str, Any]) -> None:
        """Note the calls that a message makes."""
        for call_id, name, arguments in _calls(message):
            if isinstance(call_id, str) and isinstance(name, str):
                self._known[call_id] = tool_trust(name, str(arguments))

    def trust(self, call_id: Any, name: Any = None) -> str:
        """The class of the result of this call."""
        known = self._known.get(call_id) if isinstance(call_id, str) else None
        if known is not None:
            return known
        given = name if isinstance(name, str) else None
        return tool_trust(given, "", call_id if isinstance(call_id, str) else "")


def _calls(message: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    if message.get("type") in _CALL_TYPES:
        name = message.get("name") or message["type"].removesuffix("_call")
        given = next(
            (message[key] for key in ("arguments", "input", "action") if key in message), ""
        )
        yield message.get("call_id"), name, given
        return
    for call in _mappings(message.get("tool_calls")):
        function = call.get("function") or call.get("custom")
        if isinstance(function, Mapping):
            given = function.get("arguments", function.get("input", ""))
            yield call.get("id"), function.get("name"), given
    for part in _mappings(message.get("content")):
        if part.get("type") in ("tool_use", "server_tool_use", "mcp_tool_use"):
            yield part.get("id"), part.get("name"), part.get("input", "")


def _mappings(items: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(items, Sequence) and not isinstance(items, str):
        yield from (item for item in items if isinstance(item, Mapping))


def _letters(call_id: str) -> str:
    match = _FIRST_LETTERS.match(call_id)
    assert match is not None
    return match[0]
