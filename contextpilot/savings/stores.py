"""The session files that agents keep, as messages and the calls of the model that sent them.

| agent       | where                                   | what a line is                        |
|-------------|-----------------------------------------|---------------------------------------|
| Claude Code | `~/.claude/projects/*/*.jsonl`          | a message of Anthropic's API          |
| Codex       | `~/.codex/sessions/*/*/*/rollout-*.jsonl` | an item of Responses, or an event   |

Neither file holds tools, and Claude Code's no system prompt: what is counted here are messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contextpilot.errors import CommandError

_MODEL_ITEMS = ("reasoning", "function_call", "custom_tool_call", "local_shell_call")
"""Items of Responses that the model wrote, besides messages of the assistant."""


@dataclass(frozen=True)
class Call:
    """One call of a model.

    Attributes:
        at: how many of the session's messages stood in its prompt.
        model: as the file names it; "" where it does not.
        prompt, cached, written, output: tokens as the provider told; `prompt` holds the next two.
        written_long: of `written`, for an hour.
    """

    at: int
    model: str = ""
    prompt: int = 0
    cached: int = 0
    written: int = 0
    written_long: int = 0
    output: int = 0


@dataclass
class Session:
    """One conversation, as far as its messages stand in one prompt: from a compaction on a new one.

    Attributes:
        messages: of the shape of Anthropic or Responses.
        calls: in order.
    """

    messages: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def session_files(path: Path) -> Iterator[Path]:
    """Yield a file, or all JSON Lines of a folder and those in it.

    Raises:
        CommandError: there is nothing of this name, or no such file in it.
    """
    if path.is_file():
        yield path
        return
    found = sorted(path.rglob("*.jsonl")) if path.is_dir() else []
    if not found:
        raise CommandError(f"{path}: contains no session file (*.jsonl)")
    yield from found


def read_sessions(path: Path) -> list[Session]:
    """Return the sessions of one file; none of a file that is of no known agent.

    Lines that are no JSON object are passed over: the last may be half written.
    """
    lines = list(_lines(path))
    is_codex = any("payload" in line for line in lines)
    sessions = _codex(lines) if is_codex else _claude(lines)
    return [session for session in sessions if session.calls or session.messages]


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield line


# -- Claude Code -----------------------------------------------------------------------------------


def _claude(lines: Sequence[Mapping[str, Any]]) -> list[Session]:
    """Read messages: one answer may stand in several lines, whose counts grow."""
    sessions = [Session()]
    known: dict[str, int] = {}
    for line in lines:
        message = line.get("message")
        if line.get("type") not in ("user", "assistant") or not isinstance(message, Mapping):
            continue
        if line.get("isCompactSummary"):
            sessions.append(Session())
            known = {}
        session = sessions[-1]
        if line["type"] == "assistant" and isinstance(message.get("usage"), Mapping):
            key = str(message.get("id"))
            if key not in known:
                known[key] = len(session.calls)
                session.calls.append(Call(len(session.messages), str(message.get("model") or "")))
            number = known[key]
            session.calls[number] = _grown(session.calls[number], message["usage"])
        session.messages.append({"role": message.get("role"), "content": message.get("content")})
    return sessions


def _grown(call: Call, usage: Mapping[str, Any]) -> Call:
    """Return a call with counts of Anthropic's, where they are larger than those known."""
    cached = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    lives = usage.get("cache_creation")
    long = _count(lives, "ephemeral_1h_input_tokens") if isinstance(lives, Mapping) else 0
    return replace(
        call,
        prompt=max(call.prompt, _count(usage, "input_tokens") + cached + written),
        cached=max(call.cached, cached),
        written=max(call.written, written),
        written_long=max(call.written_long, long),
        output=max(call.output, _count(usage, "output_tokens")),
    )


# -- Codex -----------------------------------------------------------------------------------------


def _codex(lines: Sequence[Mapping[str, Any]]) -> list[Session]:
    sessions, model, at, total = [Session()], "", 0, None
    was_model = False
    for line in lines:
        kind, payload = line.get("type"), line.get("payload")
        if not isinstance(payload, Mapping):
            continue
        if kind == "turn_context":
            model = str(payload.get("model") or model)
        elif kind == "compacted":
            left = payload.get("replacement_history")
            sessions.append(Session(list(left) if isinstance(left, list) else []))
            was_model = False
        elif kind == "response_item":
            is_model = payload.get("role") == "assistant" or payload.get("type") in _MODEL_ITEMS
            at = len(sessions[-1].messages) if is_model and not was_model else at
            was_model = is_model
            sessions[-1].messages.append(payload)
        elif payload.get("type") == "token_count" and isinstance(payload.get("info"), Mapping):
            told = payload["info"].get("last_token_usage")
            if payload["info"].get("total_token_usage") != total and isinstance(told, Mapping):
                sessions[-1].calls.append(_codex_call(at, model, told))
            total = payload["info"].get("total_token_usage")
    return sessions


def _codex_call(at: int, model: str, usage: Mapping[str, Any]) -> Call:
    return Call(
        at,
        model,
        prompt=_count(usage, "input_tokens"),
        cached=_count(usage, "cached_input_tokens"),
        written=_count(usage, "cache_write_input_tokens"),
        output=_count(usage, "output_tokens"),
    )


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int and value >= 0 else 0
