"""What a client is told of its request, in the one header of ours and afterwards at /explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from contextpilot.engines.usage import Usage
from contextpilot.explain import Explanation
from contextpilot.planning import Planned
from contextpilot.prompt.conversation.block_lists import BlockLists
from contextpilot.prompt.conversation.pending import WrittenBody
from contextpilot.server.observe.records import Record
from contextpilot.server.proxy.incoming import NO_TIME, PLANNING_FAILED, Incoming
from contextpilot.server.proxy.outgoing import Outgoing

_MAX_TOLD = 4
"""Lists that a header tells of: the last ones."""


class Answered(NamedTuple):
    """A request that can be planned, when its answer has ended, or when no engine gave one.

    Attributes:
        sent: the body as it went to an engine, but for members that only tell the engine its id.
        outcome: what the client was told.
        status: of the answer; None when there was none.
    """

    request: Incoming
    sent: bytes
    outcome: Mapping[str, Any]
    status: int | None
    usage: Usage


Observer: TypeAlias = Callable[[Answered], None]
"""Told of each request that has ended, on the event loop; must not take long, nor raise."""


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


def unplanned_code(request: Incoming, outgoing: Outgoing) -> str:
    """Return why a request was not planned: a code that `observe.reasons` has words for."""
    if request.shape is None:
        return "no-prompt"
    if not request.controls.enabled or request.controls.mode == "off":
        return "switched-off"
    if outgoing.outcome.get("reason") == NO_TIME["reason"]:
        return "no-time"
    if outgoing.has_failed or request.outcome is PLANNING_FAILED:
        return "planning-failed"
    if not request.parsed:
        return "no-json"
    if request.lists.left:
        return max(request.lists.left, key=lambda one: one.blocks).why
    return "no-blocks"


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
