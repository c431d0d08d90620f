"""Checks the way of a request id: planned by the index, known to it by its id afterwards."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from contextpilot.block import BlockReader
from contextpilot.commands.checks.check import Check
from contextpilot.commands.checks.exchange import Place, UnreachableError
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD
from contextpilot.planning import Job

NAMESPACE = "contextpilot-doctor"
"""The probe's own namespace: what it leaves behind, nobody else's plans can see."""

_NAME = "request ids"
_BLOCKS = ["contextpilot doctor asks", "whether the index plans"]
_PLANNING_LOGGER = logging.getLogger("contextpilot.remote")


def check_request_path(place: Place) -> Iterator[Check]:
    """Plan one tiny request on the index, and see that the index knows its id."""
    try:
        known = _forget(place, [])
    except UnreachableError as error:
        yield _broken(f"POST /evict failed: {error}")
        return
    if known == 401:
        yield token_is_wrong(_NAME, place)
    elif known:
        yield _broken(f"POST /evict answered {known}")
    else:
        yield from _check_plan(place)


def token_is_wrong(name: str, place: Place) -> Check:
    """Return what to say of a 401."""
    given = "a different CONTEXTPILOT_INDEX_TOKEN" if place.token else "a token"
    fix = "set CONTEXTPILOT_INDEX_TOKEN to the index server's --index-token"
    return Check(name, "fail", f"{place.shown} requires {given} (401)", fix)


def _check_plan(place: Place) -> Iterator[Check]:
    request_id, complaint = _plan(place)
    if complaint:
        yield _broken(f"the index does not plan: {complaint}")
        return
    with contextlib.suppress(UnreachableError):
        known = place.ask("/evict", {"request_ids": [request_id]}).content
        place.ask("/reset", {"namespace": NAMESPACE})  # a 404 where only the minimal index listens
        if isinstance(known, dict) and known.get("known") == 1:
            yield Check(_NAME, "ok", f"{request_id} was planned by the index, which still knows it")
            return
    yield _broken(f"the index planned {request_id}, but no longer knows it")


def _plan(place: Place) -> tuple[str, str]:
    """Return the id of a request, and why the index did not plan it, if it did not."""
    from contextpilot.remote import RemotePlanning  # brings requests, which takes a while to import

    blocks = BlockReader().read(_BLOCKS, "contexts")
    job = Job(NAMESPACE, [blocks], Bounds(), NO_HEAD, [0])
    planning = RemotePlanning(place.address.url, Namespaces(100, 16, 1), place.token or None)
    with contextlib.closing(planning), _warnings() as texts:
        [planned] = planning.run(job)
    return planned.request_id, "; ".join(texts)


def _forget(place: Place, request_ids: list[str]) -> int:
    """Return 0 when the index obeys, else the status of its answer."""
    answer = place.ask("/evict", {"request_ids": request_ids})
    obeyed = answer.status == 200 and isinstance(answer.content, dict)
    return 0 if obeyed else answer.status


def _broken(detail: str) -> Check:
    fix = "see the index server's log; it must be a contextpilot of this version"
    return Check(_NAME, "fail", detail, fix)


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what planning warns of, instead of showing it."""
    listener = _Listener()
    propagates, _PLANNING_LOGGER.propagate = _PLANNING_LOGGER.propagate, False
    _PLANNING_LOGGER.addHandler(listener)
    try:
        yield listener.texts
    finally:
        _PLANNING_LOGGER.removeHandler(listener)
        _PLANNING_LOGGER.propagate = propagates


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
