"""Blocks to chat messages, byte for byte the same for the same blocks in the same order."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contextpilot.block import content_key

Message = dict[str, Any]


class Messages(list[Message]):
    """OpenAI chat messages that also know how they came about.

    Attributes:
        request_id: names the request towards engine and index (`cp-` and 24 hex digits).
        order: for each position in the prompt the original rank of its block.
        hinted: original ranks of the blocks that stand as reference hints.
    """

    def __init__(
        self,
        messages: Sequence[Message] = (),
        *,
        request_id: str = "",
        order: Sequence[int] = (),
        hinted: Sequence[int] = (),
    ) -> None:
        super().__init__(messages)
        self.request_id = request_id
        self.order = tuple(order)
        self.hinted = tuple(hinted)


def new_request_id() -> str:
    """Return a self-delimiting request id, found again inside whatever an engine adds."""
    return "cp-" + secrets.token_hex(12)


def render_blocks(texts: Sequence[str]) -> str:
    """Return numbered blocks; a longer list begins with exactly the text of a shorter one."""
    return "".join([f"[{i}] {text}\n\n" for i, text in enumerate(texts, start=1)])


def render_user(texts: Sequence[str], annotation: str, query: str) -> str:
    """Return the user message: blocks, annotation, question."""
    parts = [render_blocks(texts), annotation and annotation + "\n\n", query]
    return "".join(parts)


def check_history(history: Any) -> list[Message]:
    """Return `history` as a list of chat messages, or raise TypeError."""
    if history is None:
        return []
    if isinstance(history, (str, bytes, Mapping)) or not isinstance(history, Sequence):
        raise TypeError("history must be a list of chat messages (dictionaries with a role)")
    for i, message in enumerate(history):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(f"history[{i}] must be a chat message: a dictionary with a role")
    return [dict(message) for message in history]


def message_texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield every text of the messages: string contents, and the text parts of lists."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, (list, tuple)):
            for part in content:
                if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                    yield part["text"]


def messages_key(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the identity of a run of messages."""
    return content_key(json.dumps(list(messages), sort_keys=True, default=str))
