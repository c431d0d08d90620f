"""The rewrite of a request without blocks to move, whose tool results repeat each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contextpilot.block import Block, estimate_tokens
from contextpilot.dedup.messages import rewrite_messages
from contextpilot.dedup.report import DedupReport
from contextpilot.dedup.shapes import Path
from contextpilot.dedup.stream import Spans
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.prompt.messages import Message, message_texts, messages_key


class RepeatsRewrite:
    """A request whose repeats are replaced already; the plan only tells where it hits."""

    conversation: str | None = None
    blocks: Sequence[Block] = ()
    bounds = Bounds(enabled=False)
    has_question_before = False

    def __init__(
        self, shape: Shape, body: Mapping[str, Any], messages: list[Any], saved_chars: int
    ) -> None:
        self._shape = shape
        self._body = body
        self._messages = messages
        self._saved_chars = saved_chars
        self.head = messages_head([*shape.unsearched(body), *messages])

    def job(self, namespace: str) -> Job:
        """Return a job without blocks: the messages are the head."""
        return Job(namespace, [()], self.bounds, self.head, [0])

    def write(self, _: Planned) -> WrittenBody:
        """Return the body with the repeats replaced."""
        body = self._shape.with_searched(self._body, self._messages)
        return WrittenBody(body, saved_chars=self._saved_chars)


def without_repeats(
    messages: Sequence[Any],
    blocks: Mapping[Path, Spans] | None = None,
    hint_template: str = "",
) -> tuple[list[Any], DedupReport | None]:
    """Return messages with repeats replaced, and what was; None where the engine is to judge."""
    try:
        return rewrite_messages(messages, blocks=blocks, hint_template=hint_template)
    except (TypeError, ValueError):  # of no known shape
        return list(messages), None


def messages_head(messages: Sequence[Message]) -> Head:
    """Return whole messages as a head of the index's paths."""
    keys = tuple(("message", messages_key([message])) for message in messages)
    return Head(keys, sum(estimate_tokens(text) for text in message_texts(messages)))
