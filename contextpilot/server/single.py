"""The least pool: one engine, or none, with one index. Stands in where no pool is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from contextpilot.block import Block
from contextpilot.namespace import Namespaces
from contextpilot.plan.online import Head
from contextpilot.planning import Job, LocalPlanning, Planned, Planning
from contextpilot.sync.receiver import Owner, SyncReceiver


class Engine(NamedTuple):
    """An engine's place in the pool and its base URL."""

    number: int
    url: str


class Lease(NamedTuple):
    """The engine that one request goes to, and what plans for it."""

    engine: Engine | None
    planning: Planning

    def plan(self, job: Job) -> list[Planned]:
        """Return the planned requests in execution order, each learnt already."""
        return list(self.planning.run(job))


class SingleEngine:
    """Leases the one engine to everyone at once."""

    def __init__(self, url: str | None, namespaces: Namespaces) -> None:
        self.namespaces = namespaces
        self.receiver = SyncReceiver(self._owner)
        self._lease = Lease(Engine(0, url) if url else None, LocalPlanning(namespaces))

    @asynccontextmanager
    async def lease(
        self,
        _namespace: str,
        _blocks: Sequence[Block],
        _head: Head,
        _conversation: str | None = None,
    ) -> AsyncIterator[Lease]:
        """Lend the engine for one request."""
        yield self._lease

    def health(self) -> list[dict[str, Any]]:
        """Return the state of each engine."""
        engine = self._lease.engine
        return [{"engine": engine.number, "url": engine.url, "up": True}] if engine else []

    def indexes(self) -> list[Namespaces]:
        """Return each engine's part of the index."""
        return [self.namespaces]

    def _owner(self, request_id: str) -> Owner | None:
        space = self.namespaces.owner(request_id)
        return Owner(space.planner.index, space.lock) if space is not None else None
