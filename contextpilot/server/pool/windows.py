"""Plans the requests that wait for an engine together, against what is live there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.server.pool.waiting import UnplannedRequest

if TYPE_CHECKING:
    from contextpilot.plan.batch import PlannedContext


class WindowPlanner:
    """Plans requests together, those of one namespace and head as a batch. Its lines own it."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def __call__(self, requests: Sequence[UnplannedRequest]) -> Iterator[tuple[int, Plan]]:
        """Yield positions and plans in the order of release; see `PlanWindow`."""
        alike: dict[tuple[str, Head, Bounds], list[int]] = {}
        for position, request in enumerate(requests):
            kind = (request.namespace, request.head, request.bounds)
            alike.setdefault(kind, []).append(position)
        batches = [
            (positions, self._batch(*kind, [requests[position].blocks for position in positions]))
            for kind, positions in alike.items()
        ]
        for positions, steps in batches:
            for at, plan in steps:
                yield positions[at], plan

    def _batch(
        self, name: str, head: Head, bounds: Bounds, contexts: Sequence[Sequence[Block]]
    ) -> Iterator[tuple[int, Plan]]:
        """Prepare a batch now; return what walks through it."""
        from contextpilot.plan.batch import BatchPlanner  # SciPy takes a while to import

        space = self._namespaces.get(name)
        planner = BatchPlanner(space.planner, space.lock)
        groups = planner.prepare(contexts, bounds, head)
        return _steps(planner.walk(contexts, groups, bounds, head), space.lock)


def _steps(
    walk: Iterator[PlannedContext], lock: AbstractContextManager[Any]
) -> Iterator[tuple[int, Plan]]:
    while True:
        with lock:
            step = next(walk, None)
        if step is None:
            return
        yield step.position, step.plan
