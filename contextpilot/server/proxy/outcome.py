"""What a client is told of its request, in the one header of ours and afterwards at /explain."""

from __future__ import annotations

from typing import Any

from contextpilot.explain import Explanation
from contextpilot.planning import Planned
from contextpilot.prompt.conversation.block_lists import BlockLists
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.server.observe.records import Record
from contextpilot.server.proxy.incoming import Incoming

_MAX_TOLD = 4
"""Lists that a header tells of: the last ones."""


def unplanned_outcome(request: Incoming) -> dict[str, Any]:
    """Return what the header says of a request that is not planned."""
    return {**request.outcome, **lists_told(request.lists), **_volatile_told(request)}


def planned_outcome(request: Incoming, planned: Planned, written: WrittenBody) -> dict[str, Any]:
    """Return what the header says of a planned request."""
    order = planned.plan.order
    return {
        "status": "planned",
        "request_id": planned.request_id,
        "blocks": len(order),
        "moved": sum(rank != position for position, rank in enumerate(order)),
        "hinted": written.num_hinted,
        "saved_chars": written.saved_chars,
        "live_blocks": planned.plan.num_live,
        "live_tokens": planned.explanation.matched_tokens,
        "total_tokens": planned.explanation.total_tokens,
        **lists_told(request.lists),
        **_volatile_told(request),
    }


def record_of(request: Incoming, explanation: Explanation, engine: str | None) -> Record:
    """Return what is remembered of a request, from its plan on."""
    told = lists_told(request.lists)
    return Record(
        request.api,
        explanation,
        engine,
        request.volatile,
        found=told.get("found", ()),
        left=told.get("left", ()),
    )


def lists_told(lists: BlockLists) -> dict[str, Any]:
    """Return what is told of lists of blocks: the last that may move, and the last that stay."""
    told: dict[str, Any] = {}
    if lists.found:
        told["found"] = [
            {"form": one.form, "blocks": one.blocks, "why": one.why}
            for one in lists.found[-_MAX_TOLD:]
        ]
    if lists.left:
        told["left"] = [one._asdict() for one in lists.left[-_MAX_TOLD:]]
    return told


def _volatile_told(request: Incoming) -> dict[str, Any]:
    return {"volatile": request.volatile} if request.volatile else {}
