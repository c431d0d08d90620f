"""Looks through the messages of a request for what can be rewritten."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from contextpilot.block import BlockReader
from contextpilot.options import Options
from contextpilot.prompt.apis.shape import Shape
from contextpilot.prompt.conversation.found_blocks import FoundBlocksRewrite
from contextpilot.prompt.conversation.pending import PendingRewrite
from contextpilot.prompt.conversation.repeats import RepeatsRewrite, without_repeats
from contextpilot.prompt.conversation.written_orders import WrittenOrders
from contextpilot.prompt.extract import Looked, look

OFF = "off"
"""The mode that looks for nothing."""
_MAX_TOLD = 4
"""Lists that are told of: the last ones."""


class Prepared(NamedTuple):
    """What can be rewritten of a request, None for nothing, and the lists in its messages.

    `lists` may hold `found`, those that may move, and `left`, those that stay, each with its
    `form`, its number of `blocks`, and `why`.
    """

    rewrite: PendingRewrite | None
    lists: dict[str, Any]


def prepare_rewrite(
    shape: Shape,
    body: Mapping[str, Any],
    reader: BlockReader,
    options: Options,
    orders: WrittenOrders,
    *,
    namespace: str,
    session: str | None = None,
    mode: str = "auto",
    scope: str | Collection[str] = "all",
) -> Prepared:
    """Look for blocks, and for texts that repeat each other, in the messages of a request.

    Args:
        shape, body: the request as its API has it; never changed.
        orders: how earlier turns were written; the new order is added once it is.
        session: names a conversation whose namespace may change.
        mode, scope: what to look for, and in whose messages, as in `extract.look`.

    Raises:
        ValueError: mode or scope is unknown.
    """
    messages = shape.searched(body)
    if mode == OFF or not messages:
        return Prepared(None, {})
    # without a note on the numbers, citations are right only if the numbers move along
    labels = "stay" if options.ranking_template else "move"
    looked = look(messages, mode, scope, labels=labels, opening=shape.unsearched(body))
    lists = _told(looked)
    if looked.extraction is not None:
        found = FoundBlocksRewrite(
            shape, body, looked.extraction, options, reader, orders, namespace, session
        )
        return Prepared(found, lists)
    if options.deduplicate:
        changed, report = without_repeats(messages)
        if report is not None and report.replacements:
            return Prepared(RepeatsRewrite(shape, body, changed, report.chars_saved), lists)
    return Prepared(None, lists)


def _told(looked: Looked) -> dict[str, Any]:
    """Return what is told of lists: those that may move, those that stay, and why."""
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
