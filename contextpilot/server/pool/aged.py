"""Which upstreams are synced by age, and what is believed of each request that goes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contextpilot.block import BlockKey
from contextpilot.engines.base import EngineKind
from contextpilot.planning import Job, Planned
from contextpilot.server.pool.expiry import TtlSync
from contextpilot.server.pool.member import Engine, ends_of, path_of


@dataclass(frozen=True)
class Belief:
    """What was believed of one request before it went to its upstream.

    Attributes:
        expected_tokens: of its prompt in the cache; None when that cannot be counted.
        age_s: seconds since these were last used.
    """

    sync: TtlSync
    namespace: str
    keys: Sequence[BlockKey]
    expected_tokens: int | None
    age_s: float

    def confirm(self) -> None:
        """Note that the upstream read the prompt: its prefixes live on from now."""
        self.sync.note(self.namespace, self.keys)

    def compare(self, cached_tokens: int) -> None:
        """Learn from what the upstream says."""
        if self.expected_tokens is not None:
            self.sync.learn(self.expected_tokens, cached_tokens, self.age_s)


@dataclass(frozen=True)
class Aged:
    """One upstream that is synced by age."""

    sync: TtlSync

    def belief(self, job: Job, planned: Planned) -> Belief:
        """Return what is believed of a planned request that was not sent yet."""
        keys = path_of(job, planned)
        number, age = self.sync.known(job.namespace, keys)
        expected = ends_of(job, planned)[number - 1] if number else 0
        if 0 < number < len(job.head.keys):  # a head has one count: its parts are not known
            return Belief(self.sync, job.namespace, keys, None, age)
        return Belief(self.sync, job.namespace, keys, expected, age)


class AgedEngines:
    """The cloud upstreams of a pool. For use on one thread."""

    def __init__(self) -> None:
        self._known: dict[int, Aged] = {}

    def before(self, engine: Engine | None, kind: EngineKind) -> Aged | None:
        """Age an upstream's part of the index; call it before planning there. None: events do."""
        if engine is None or not kind.is_synced_by_age:
            return None
        aged = self._known.get(engine.number)
        if aged is None:
            engine.ttl_sync = TtlSync(engine.namespaces)
            aged = self._known[engine.number] = Aged(engine.ttl_sync)
        aged.sync.expire()
        return aged

    def ttl(self, number: int) -> float | None:
        """Return the learnt time to live of an upstream; None when it is not synced by age."""
        aged = self._known.get(number)
        return aged.sync.ttl_s if aged is not None else None
