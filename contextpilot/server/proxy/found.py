"""Drafts of requests whose blocks were found in their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contextpilot.block import CHARS_PER_TOKEN, Block, BlockReader, content_key, estimate_tokens
from contextpilot.dedup.messages import rewrite_messages
from contextpilot.dedup.report import DedupReport
from contextpilot.dedup.shapes import Path
from contextpilot.dedup.stream import Spans
from contextpilot.options import Options
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.extract import Arrangement, Extraction, Looked, look
from contextpilot.prompt.extract.parts import PartsGroup
from contextpilot.prompt.messages import Message, message_texts, messages_key
from contextpilot.server.proxy.choices import Choices, Order, group_keys
from contextpilot.server.proxy.controls import Controls
from contextpilot.server.proxy.spans import arranged_spans

_MAX_TOLD = 4
"""Lists that a header tells of: the last ones."""


class _Written(NamedTuple):
    """Messages as they may go to the engine.

    `arrangements` say how each group is written, `hints` by rank what stands for the blocks of
    the last.
    """

    messages: list[Any]
    arrangements: list[Arrangement]
    hints: Mapping[int, str]
    saved_chars: int


class GroupDraft:
    """A request with at least one group of blocks; the last group is planned.

    Groups before it are written as they were in earlier turns.
    """

    conversation: str | None = None
    has_question_before = False

    def __init__(
        self,
        shape: Shape,
        body: Mapping[str, Any],
        extraction: Extraction,
        options: Options,
        reader: BlockReader,
        choices: Choices,
        namespace: str,
        session: str | None,
    ) -> None:
        self._shape = shape
        self._body = body
        self._extraction = extraction
        self._options = options
        self._choices = choices
        before = shape.unsearched(body)
        self._keys = group_keys(namespace, session, before, extraction)
        self._settled = self._order_before(len(self._keys) - 1)
        done = [self._as_before(number) for number in range(len(self._keys) - 1)]
        self._written = self._write([*done, self._arranged(len(done), self._settled)])
        self.head = extraction.head(self._written.arrangements[:-1], before or None)
        self.blocks = self._read(reader)
        is_new = self._settled is None and not _is_answered(extraction)
        self.bounds = options.bounds if is_new else Bounds(enabled=False)
        self.saved_chars = 0

    @property
    def num_hinted(self) -> int:
        """Blocks that stand as reference hints."""
        return len(self._written.hints)

    def cuts(self, _: Planned) -> Sequence[int]:
        """Return none: the messages stay whole."""
        return ()

    def job(self, namespace: str) -> Job:
        """Return the job that plans the last group."""
        tail = self._extraction.tail_tokens()
        return Job(namespace, [self.blocks], self.bounds, self.head, [tail])

    def write(self, planned: Planned) -> dict[str, Any]:
        """Return the body with the blocks in the planned order."""
        order = planned.plan.order
        if self._settled is not None:
            order = tuple(self._settled[position] for position in order)
        self._choices.add(self._keys[-1], order)
        *done, last = self._written.arrangements
        if tuple(last.order) != order:
            self._written = self._write([*done, self._arranged(len(done), order)])
        self.saved_chars = self._written.saved_chars
        return self._shape.with_searched(self._body, self._written.messages)

    # -- arranging -------------------------------------------------------------------------------

    def _read(self, reader: BlockReader) -> list[Block]:
        """Return the blocks to plan: in their settled order if they have one."""
        blocks = reader.read(self._extraction.last.texts)
        for rank, hint in self._written.hints.items():
            key = content_key(f"{rank}\0{hint}")  # as Extraction.head names it in later turns
            blocks[rank] = Block(key, hint, estimate_tokens(hint), hint)
        return blocks if self._settled is None else [blocks[rank] for rank in self._settled]

    def _as_before(self, number: int) -> Arrangement:
        """Return how a group of an earlier turn was written; as it stands when never planned."""
        return self._arranged(number, self._order_before(number))

    def _order_before(self, number: int) -> Order | None:
        order = self._choices.get(self._keys[number])
        size = len(self._extraction.groups[number].texts)
        return order if order is not None and sorted(order) == list(range(size)) else None

    def _arranged(self, number: int, order: Order | None) -> Arrangement:
        size = len(self._extraction.groups[number].texts)
        if order is None:
            return Arrangement(range(size))
        return Arrangement(order, note=self._note(number, order))

    def _write(self, arrangements: list[Arrangement]) -> _Written:
        """Return the messages with groups arranged so, and repeats replaced.

        What is replaced depends on what stands before it alone, so that earlier turns come out as
        they did.
        """
        if not self._options.deduplicate:
            return _Written(self._extraction.arrange(arrangements), arrangements, {}, 0)
        placed = arranged_spans(self._extraction, arrangements)
        template = self._options.hint_template
        messages, report = deduplicated(placed.messages, placed.spans, template)
        hints = placed.hints(report) if report is not None else {}
        hinted = [
            given._replace(replacements=hints.get(number, given.replacements))
            for number, given in enumerate(arrangements)
        ]
        saved = report.chars_saved if report is not None else 0
        return _Written(messages, hinted, hints.get(len(arrangements) - 1, {}), saved)

    def _note(self, number: int, order: Sequence[int]) -> str:
        group = self._extraction.groups[number]
        template = self._options.ranking_template
        if template is None or isinstance(group, PartsGroup):
            return ""
        return group.legend(order) or group.ranking(order, template)


def _is_answered(extraction: Extraction) -> bool:
    """Return whether the last group was sent before: an answer follows it.

    How it was written then is not known, and to change it now would cost the prefix.
    """
    later = extraction.messages[int(extraction.last.path[0]) + 1 :]
    return any(message.get("role") == "assistant" for message in later)


class RepeatsDraft:
    """A request without blocks to move, whose tool results repeat each other."""

    conversation: str | None = None
    blocks: Sequence[Block] = ()
    bounds = Bounds(enabled=False)
    num_hinted = 0
    has_question_before = False

    def __init__(
        self, shape: Shape, body: Mapping[str, Any], messages: list[Any], saved_chars: int
    ) -> None:
        self._shape = shape
        self._body = body
        self._messages = messages
        self.saved_chars = saved_chars
        self.head = messages_head([*shape.unsearched(body), *messages])

    def cuts(self, _: Planned) -> Sequence[int]:
        """Return none: the messages stay whole."""
        return ()

    def job(self, namespace: str) -> Job:
        """Return a job without blocks: the messages are the head."""
        return Job(namespace, [()], self.bounds, self.head, [0])

    def write(self, _: Planned) -> dict[str, Any]:
        """Return the body with the repeats replaced."""
        return self._shape.with_searched(self._body, self._messages)


def found_draft(
    shape: Shape,
    body: Mapping[str, Any],
    controls: Controls,
    reader: BlockReader,
    options: Options,
    choices: Choices,
    namespace: str,
    session: str | None = None,
    told: dict[str, Any] | None = None,
) -> GroupDraft | RepeatsDraft | None:
    """Look for blocks in the messages of a request; None when there is nothing to do.

    Args:
        told: takes up which lists were found and which are left, and why, for the answer's header.
    """
    messages = shape.searched(body)
    if controls.mode == "off" or not messages:
        return None
    # without a note on the numbers, citations are right only if the numbers move along
    labels = "stay" if options.ranking_template else "move"
    opening = shape.unsearched(body)
    looked = look(messages, controls.mode, controls.scope, labels=labels, opening=opening)
    extraction = looked.extraction
    if told is not None:
        told.update(_lists(looked))
    if extraction is not None:
        return GroupDraft(shape, body, extraction, options, reader, choices, namespace, session)
    if options.deduplicate:
        changed, report = deduplicated(messages)
        if report is not None and report.replacements:
            return RepeatsDraft(shape, body, changed, report.chars_saved)
    return None


def _lists(looked: Looked) -> dict[str, Any]:
    """Return what a header tells of lists: those that may move, those that stay, and why."""
    groups = looked.extraction.groups if looked.extraction is not None else ()
    told: dict[str, Any] = {}
    if groups:
        told["found"] = [
            {"form": group.kind, "blocks": len(group.texts), "why": group.why}
            for group in groups[-_MAX_TOLD:]
        ]
    if looked.left:
        told["left"] = [
            {"form": one.form, "blocks": one.blocks, "why": one.code, "words": one.words}
            for one in list(dict.fromkeys(looked.left))[-_MAX_TOLD:]
        ]
    return told


def deduplicated(
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


def saved_tokens(characters: int) -> int:
    """Estimate the tokens of characters that were saved."""
    return characters // CHARS_PER_TOKEN
