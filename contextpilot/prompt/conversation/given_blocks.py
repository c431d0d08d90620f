"""The rewrite of a request whose blocks the caller handed over, in the field `contextpilot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockReader, estimate_tokens
from contextpilot.options import Options
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.field import FIELD, ContextField, FieldError
from contextpilot.prompt.apis.question import Question, end_of_turns, find_question
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.prompt.messages import Message, message_texts, render_blocks
from contextpilot.prompt.turn import Turn, head_of


class GivenBlocksRewrite(NamedTuple):
    """Blocks that the caller handed over in the field `contextpilot`.

    Attributes:
        question: the message that they are put in front of the text of; None for a new one.
        before, after: the messages around it.
    """

    shape: Shape
    body: Mapping[str, Any]
    turn: Turn
    query: str
    before: Sequence[Message]
    question: Question | None
    after: Sequence[Message]
    head: Head
    conversation: str | None

    @property
    def blocks(self) -> Sequence[Block]:
        return self.turn.fresh

    @property
    def bounds(self) -> Bounds:
        return self.turn.options.bounds

    @property
    def has_question_before(self) -> bool:
        return self.question is None and find_question(self.before) is not None

    def _cuts(self, planned: Planned) -> Sequence[int]:
        if self.turn.hints or self.after:
            return ()
        texts = [self.turn.fresh[rank].text for rank in planned.plan.order]
        live = planned.plan.num_live
        return (len(render_blocks(texts[:live])), len(render_blocks(texts)))

    def job(self, namespace: str) -> Job:
        tail = self.turn.tail_tokens(self.query)
        tail += sum(estimate_tokens(text) for text in message_texts(self.after))
        return Job(namespace, [self.turn.fresh], self.bounds, self.head, [tail])

    def write(self, planned: Planned) -> WrittenBody:
        turn = self.turn
        messages = turn.write(planned.plan, planned.explanation, self.query)
        text = messages[-1]["content"]
        user = {"role": "user", "content": text}
        if self.question is not None:
            user = self.question.rewritten(text)
        whole = self.shape.with_turns(self.body, [*self.before, user, *self.after])
        body = {name: value for name, value in whole.items() if name != FIELD}
        saved = sum(len(turn.blocks[rank].text) - len(hint) for rank, hint in turn.hints.items())
        cuts = self._cuts(planned)
        return WrittenBody(body, len(turn.hints), saved, order=messages.order, cuts=cuts)


def given_blocks_rewrite(
    shape: Shape,
    body: Mapping[str, Any],
    field: ContextField,
    reader: BlockReader,
    defaults: Options,
) -> GivenBlocksRewrite:
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
    question, query = _question(turns, field.query)
    at = question.at if question is not None else end_of_turns(body, turns)
    before, after = turns[:at], turns[at + 1 if question is not None else at :]
    prompt = [*shape.opening(body), *before, *(question.parts_before if question else ())]
    turn = Turn.split(blocks, prompt, options)
    return GivenBlocksRewrite(
        shape, body, turn, query, before, question, after, head_of(prompt), field.conversation
    )


def _question(turns: Sequence[Message], query: str | None) -> tuple[Question | None, str]:
    """Return the message that holds the question, if one does, and the question.

    A question that is given beside the messages may stand in the last user message as well.
    """
    found = find_question(turns)
    if query is None:
        if found is None:
            raise FieldError(f"{FIELD}.query", "is missing, and no user message has a text")
        return found, found.text
    if found is not None and found.text.strip() == query.strip():
        return found, found.text
    return None, query
