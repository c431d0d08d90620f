"""Looks through the messages of a request for what can be rewritten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from contextpilot.block import BlockReader
from contextpilot.options import Options
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.block_lists import NO_LISTS, BlockLists, block_lists
from contextpilot.prompt.conversation.found_blocks import FoundBlocksRewrite
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.conversation.repeats import RepeatsRewrite, without_repeats
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.extract import FindingMemory, look
from contextpilot.prompt.extract.schemas import keeps_prompt, names_places
from contextpilot.whose import reading_for

OFF = "off"
"""The mode that looks for nothing."""


class Search(NamedTuple):
    """What to look for, and in whose messages: as in `extract.look`, or nothing."""

    mode: str = "auto"
    scope: str | Collection[str] = "all"


SEARCH_ALL = Search()


class Prepared(NamedTuple):
    """What can be rewritten of a request, None for nothing, and the lists in its messages."""

    rewrite: PendingRewrite | None
    lists: BlockLists = NO_LISTS


class RewritePreparer:
    """Looks through requests for blocks, and for texts that repeat each other. Thread-safe.

    Args:
        orders: how earlier turns were written; what is written now is added to it.
    """

    def __init__(self, reader: BlockReader, orders: WrittenOrders) -> None:
        self._reader = reader
        self._orders = orders
        self._memory = FindingMemory()

    def prepare(
        self,
        shape: Shape,
        body: Mapping[str, Any],
        options: Options,
        namespace: str,
        search: Search = SEARCH_ALL,
        session: str | None = None,
    ) -> Prepared:
        """Return what can be rewritten of a request.

        Args:
            shape, body: the request as its API has it; never changed.
            session: names a conversation whose namespace may change.

        Raises:
            ValueError: the search is for what there is not.
        """
        with reading_for(namespace):
            return self._prepared(shape, body, options, namespace, search, session)

    def _prepared(
        self,
        shape: Shape,
        body: Mapping[str, Any],
        options: Options,
        namespace: str,
        search: Search,
        session: str | None,
    ) -> Prepared:
        messages = shape.searched(body)
        if search.mode == OFF or not messages:
            return Prepared(None)
        # without a note on the numbers, citations are right only if the numbers move along
        labels = "stay" if options.ranking_template else "move"
        opening, kept = shape.unsearched(body), keeps_prompt(body)
        looked = look(
            messages,
            *search,
            labels=labels,
            opening=opening,
            counted=names_places(body),
            kept=kept,
            memory=self._memory,
        )
        lists = block_lists(looked)
        if looked.extraction is not None:
            reader, orders = self._reader, self._orders
            found = FoundBlocksRewrite(
                shape, body, looked.extraction, options, reader, orders, namespace, session
            )
            return Prepared(found, lists)
        if options.deduplicate and not kept:
            changed, report = without_repeats(messages)
            if report is not None and report.replacements:
                return Prepared(RepeatsRewrite(shape, body, changed, report.chars_saved), lists)
        return Prepared(None, lists)
