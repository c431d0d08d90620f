"""The rewrite of a request whose blocks were found in its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from contextpilot.block import Block, BlockReader, content_key, estimate_tokens
from contextpilot.options import Options
from contextpilot.plan.bounds import Bounds
from contextpilot.planning import Job, Planned
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.block_spans import arranged_spans
from contextpilot.prompt.conversation.image_repeats import with_image_references
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.prompt.conversation.repeats import without_repeats
from contextpilot.prompt.conversation.written_orders import (
    Order,
    WrittenOrders,
    group_keys,
    known_order,
)
from contextpilot.prompt.extract import Arrangement, Extraction
from contextpilot.prompt.extract.parts import PartsGroup


class _Written(NamedTuple):
    """Messages as they may go to the engine.

    `arrangements` say how each group is written, `hints` by rank what stands for the blocks of
    the last.
    """

    messages: list[Any]
    arrangements: list[Arrangement]
    hints: Mapping[int, str]
    saved_chars: int
    saved_image_tokens: int = 0


class FoundBlocksRewrite:
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
        orders: WrittenOrders,
        namespace: str,
        session: str | None,
    ) -> None:
        self._shape = shape
        self._body = body
        self._extraction = extraction
        self._options = options
        self._orders = orders
        model = body.get("model")
        self._model = reader.image_model or (model if isinstance(model, str) else "")
        before = shape.unsearched(body)
        self._keys = group_keys(namespace, session, before, extraction)
        self._settled = self._order_before(len(self._keys) - 1)
        done = [self._as_before(number) for number in range(len(self._keys) - 1)]
        self._written = self._write([*done, self._arranged(len(done), self._settled)])
        self.head = extraction.head(self._written.arrangements[:-1], before or None)
        self.blocks = self._read(reader)
        self.bounds = self._bounds()

    def job(self, namespace: str) -> Job:
        """Return the job that plans the last group."""
        tail = self._extraction.tail_tokens()
        return Job(namespace, [self.blocks], self.bounds, self.head, [tail])

    def write(self, planned: Planned) -> WrittenBody:
        """Return the body with the blocks in the planned order, which later turns repeat."""
        order = planned.plan.order
        if self._settled is not None:
            order = tuple(self._settled[position] for position in order)
        written = self._written
        *done, last = written.arrangements
        self._remember([*(given.order for given in done), order])
        if tuple(last.order) != order:
            written = self._write([*done, self._arranged(len(done), order)])
        body = self._shape.with_searched(self._body, written.messages)
        saved = written.saved_chars, written.saved_image_tokens
        return WrittenBody(body, len(written.hints), *saved, order)

    def _bounds(self) -> Bounds:
        """Return how far the last group may move: not at all, where it was written before."""
        bounds, is_set = self._options.bounds, self._extraction.last.is_set
        if self._settled is not None or (not is_set and _is_answered(self._extraction)):
            return Bounds(enabled=False)
        # the order of a set tells of no relevance
        return replace(bounds, displacement_cost=0, anchor="none") if is_set else bounds

    def _remember(self, orders: Sequence[Sequence[int]]) -> None:
        """Remember how the last group is written, and each set."""
        for number, (group, order) in enumerate(zip(self._extraction.groups, orders, strict=True)):
            if group.is_set:
                known = known_order(group)
                self._orders.add(self._keys[number], tuple(map(known.index, order)))
            elif group is self._extraction.last:
                self._orders.add(self._keys[number], tuple(order))

    # -- arranging -------------------------------------------------------------------------------

    def _read(self, reader: BlockReader) -> list[Block]:
        """Return the blocks to plan: in their settled order if they have one."""
        blocks = reader.read(self._extraction.last.values, image_model=self._model)
        for rank, hint in self._written.hints.items():
            key = content_key(f"{rank}\0{hint}")  # as Extraction.head names it in later turns
            blocks[rank] = Block(key, hint, estimate_tokens(hint), hint)
        return blocks if self._settled is None else [blocks[rank] for rank in self._settled]

    def _as_before(self, number: int) -> Arrangement:
        """Return how a group of an earlier turn was written; as it stands when never planned."""
        return self._arranged(number, self._order_before(number))

    def _order_before(self, number: int) -> Order | None:
        order = self._orders.get(self._keys[number])
        known = known_order(self._extraction.groups[number])
        if order is None or sorted(order) != list(range(len(known))):
            return None
        return tuple(known[rank] for rank in order)

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
        messages, report = without_repeats(placed.messages, placed.spans, template)
        hints = placed.hints(report) if report is not None else {}
        hinted = [
            given._replace(replacements=hints.get(number, given.replacements))
            for number, given in enumerate(arrangements)
        ]
        done = with_image_references(self._extraction, messages, hinted, self._model)
        saved = report.chars_saved if report is not None else 0
        last = done.arrangements[-1].replacements
        return _Written(done.messages, done.arrangements, last, saved, done.saved_tokens)

    def _note(self, number: int, order: Sequence[int]) -> str:
        group = self._extraction.groups[number]
        template = self._options.ranking_template
        if template is None or isinstance(group, PartsGroup) or group.is_set:
            return ""
        return group.legend(order) or group.ranking(order, template)


def _is_answered(extraction: Extraction) -> bool:
    """Return whether the last group was sent before: an answer follows it.

    How it was written then is not known, and to change it now would cost the prefix.
    """
    later = extraction.messages[int(extraction.last.path[0]) + 1 :]
    return any(message.get("role") == "assistant" for message in later)
