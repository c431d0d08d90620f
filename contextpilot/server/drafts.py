"""A request that can be planned: its blocks, and how to write it with a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from contextpilot.block import Block, BlockReader
from contextpilot.options import Options
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned
from contextpilot.prompt.messages import Message, render_blocks
from contextpilot.prompt.turn import Turn, head_of
from contextpilot.server.service import turns_job
from contextpilot.server.wire.field import FIELD, ContextField, FieldError
from contextpilot.server.wire.shape import Shape


class Draft(Protocol):
    """A request read, not planned yet."""

    @property
    def blocks(self) -> Sequence[Block]:
        """All its blocks."""

    @property
    def head(self) -> Head:
        """What stands before them."""

    @property
    def bounds(self) -> Bounds:
        """How far they may move."""

    @property
    def conversation(self) -> str | None:
        """The conversation that the caller named."""

    @property
    def num_hinted(self) -> int:
        """Blocks that will stand as reference hints."""

    @property
    def saved_chars(self) -> int:
        """Characters that deduplication saved; known once written."""

    def cuts(self, planned: Planned) -> Sequence[int]:
        """Return the characters of the last message after which a prefix may be found again."""

    def job(self, namespace: str) -> Job:
        """Return the job that plans it."""

    def write(self, planned: Planned) -> dict[str, Any]:
        """Return the body to send to the engine."""


class ExplicitDraft(NamedTuple):
    """Blocks that the caller handed over in the field `contextpilot`."""

    shape: Shape
    body: Mapping[str, Any]
    turn: Turn
    query: str
    before: Sequence[Message]
    last: Message | None
    head: Head
    conversation: str | None

    @property
    def blocks(self) -> Sequence[Block]:
        return self.turn.fresh

    @property
    def bounds(self) -> Bounds:
        return self.turn.options.bounds

    @property
    def saved_chars(self) -> int:
        blocks = self.turn.blocks
        return sum(len(blocks[rank].text) - len(hint) for rank, hint in self.turn.hints.items())

    @property
    def num_hinted(self) -> int:
        return len(self.turn.hints)

    def cuts(self, planned: Planned) -> Sequence[int]:
        if self.num_hinted:
            return ()
        texts = [self.turn.fresh[rank].text for rank in planned.plan.order]
        live = planned.plan.num_live
        return (len(render_blocks(texts[:live])), len(render_blocks(texts)))

    def job(self, namespace: str) -> Job:
        return turns_job(namespace, [self.turn], [self.query], self.head)

    def write(self, planned: Planned) -> dict[str, Any]:
        text = self.turn.write(planned.plan, planned.request_id, self.query)[-1]["content"]
        user = {"role": "user", "content": text} if self.last is None else _told(self.last, text)
        body = self.shape.with_turns(self.body, [*self.before, user])
        return {name: value for name, value in body.items() if name != FIELD}


def explicit_draft(
    shape: Shape,
    body: Mapping[str, Any],
    field: ContextField,
    reader: BlockReader,
    defaults: Options,
) -> ExplicitDraft:
    """Read the blocks of the field; raise FieldError when they cannot be."""
    try:
        blocks = reader.read(field.contexts, f"{FIELD}.contexts")
    except (ValueError, TypeError) as error:
        raise FieldError(f"{FIELD}.contexts", f"cannot be read: {error}") from None
    try:
        options = defaults.override(**field.options)
    except (ValueError, TypeError) as error:
        raise FieldError(f"{FIELD}.options", f"cannot be followed: {error}") from None
    turns = shape.turns(body)
    before, last, query = turns, None, field.query
    if query is None:
        before, last = turns[:-1], turns[-1] if turns else None
        query = _question(last)
    opening = shape.opening(body)
    turn = Turn.split(blocks, [*opening, *before], options)
    head = head_of([*opening, *before])
    return ExplicitDraft(shape, body, turn, query, before, last, head, field.conversation)


def _question(message: Message | None) -> str:
    """Return the text of the last message, which is the question."""
    content = message.get("content") if message else None
    if isinstance(content, str):
        return content
    at = _text_part(content)
    if at is None:
        raise FieldError(f"{FIELD}.query", "is missing, and the last message has no text")
    assert isinstance(content, list)
    text: str = content[at]["text"]
    return text


def _told(message: Message, text: str) -> Message:
    """Return a message with its text replaced."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": text}
    at = _text_part(content)
    parts = [{**part, "text": text} if i == at else part for i, part in enumerate(content)]
    return {**message, "content": parts}


def _text_part(content: Any) -> int | None:
    """Return the place of the last part that is a text."""
    if not isinstance(content, list):
        return None
    texts = [
        i
        for i, part in enumerate(content)
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    ]
    return texts[-1] if texts else None
