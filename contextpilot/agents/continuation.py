"""Where a prompt leaves the one that it continues: from there on the engine computes it anew.

Prompts are compared by hashes of their parts (tools, system prompt, each message); no text is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.apis.splice import dump
from contextpilot.prompt.messages import Message, messages_key
from contextpilot.server.proxy.unstable_heads import is_first_turn
from contextpilot.server.proxy.volatile import volatile_kinds

_MAX_PROMPTS = 64
"""Conversations of one agent that are told apart, its helpers' among them."""
_PLACES = {"tools": "the tools", "system": "the system prompt", "developer": "the system prompt"}


class Part(NamedTuple):
    """A message of a prompt, or what stands before them: its role, hash, and text as JSON."""

    role: str
    key: bytes
    text: str


class Break(NamedTuple):
    """Where a prompt differs from the one that it continues.

    Attributes:
        place: what differs, in words.
        kinds: text in it that changes with every request.
    """

    place: str
    kinds: tuple[str, ...]


class Continuations:
    """The latest prompts of a session, and how many go on where an earlier one ended.

    Attributes:
        continuing: prompts that begin with all of an earlier one.
        breaks: where the others leave it, in order.
    """

    def __init__(self) -> None:
        self._before: deque[tuple[bytes, ...]] = deque(maxlen=_MAX_PROMPTS)
        self.continuing = 0
        self.breaks: list[Break] = []

    def note(self, parts: Sequence[Part], is_first: bool) -> None:
        """Note a prompt.

        Args:
            is_first: it holds no answer yet: if it begins like no other, it is a new conversation.
        """
        keys = tuple(part.key for part in parts)
        nearest = max(self._before, key=lambda one: (_common(one, keys), -len(one)), default=())
        common = _common(nearest, keys)
        if nearest and common == len(nearest):
            self.continuing += 1
            self._before.remove(nearest)
        elif nearest and common < len(keys) and not is_first:
            self.breaks.append(_break(parts, common, len(nearest)))
            self._before.remove(nearest)
        self._before.append(keys)


def parts_of(shape: Shape, body: Mapping[str, Any]) -> list[Part]:
    """Return the parts of a prompt in the order in which models read them."""
    return [_part(message) for message in _messages(shape, body)]


def is_first_prompt(shape: Shape, body: Mapping[str, Any]) -> bool:
    """Return whether a conversation begins with a prompt."""
    return is_first_turn(shape.turns(body))


def _messages(shape: Shape, body: Mapping[str, Any]) -> Iterator[Message]:
    yield from shape.opening(body)
    yield from shape.turns(body)


def _part(message: Message) -> Part:
    role = str(message.get("role") or message.get("type") or "message")
    return Part(role, messages_key([message]), dump(message))


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _break(parts: Sequence[Part], at: int, length_before: int) -> Break:
    part = parts[at]
    place = _PLACES.get(part.role, "")
    if not place:
        place = "the last message" if at == length_before - 1 else f"message {at + 1}"
        place += f" ({part.role})"
    return Break(place, volatile_kinds([{"role": part.role, "content": part.text}]))
