"""Which upstreams are synced by age, and what is believed of each request that goes there."""

from __future__ import annotations

from dataclasses import dataclass

from contextpilot.planning import Job, Planned
from contextpilot.server.engine import Engine, path_of
from contextpilot.server.kinds import CLOUD, Kind
from contextpilot.server.ttl import TtlSync


@dataclass(frozen=True)
class Belief:
    """What was believed of one request: tokens in the cache, and since when."""

    sync: TtlSync
    expected_tokens: int
    age_s: float

    def compare(self, cached_tokens: int) -> None:
        """Learn from what the upstream says."""
        self.sync.learn(self.expected_tokens, cached_tokens, self.age_s)


@dataclass(frozen=True)
class Aged:
    """One upstream that is synced by age."""

    sync: TtlSync

    def note(self, job: Job, planned: Planned) -> Belief:
        """Note a planned request, and return what was believed of it."""
        keys, live = path_of(job, planned), planned.plan.num_live
        explained = planned.explanation
        tokens = explained.matched_tokens + (job.head.tokens if live else 0)
        age = self.sync.age(job.namespace, keys, len(job.head.keys) + live)
        self.sync.note(job.namespace, keys)
        return Belief(self.sync, tokens, age)


class AgedEngines:
    """The cloud upstreams of a pool. For use on one thread."""

    def __init__(self) -> None:
        self._known: dict[int, Aged] = {}

    def before(self, engine: Engine | None, kind: Kind) -> Aged | None:
        """Age an upstream's part of the index; call it before planning there. None: events do."""
        if engine is None or kind not in CLOUD:
            return None
        aged = self._known.get(engine.number)
        if aged is None:
            aged = self._known[engine.number] = Aged(TtlSync(engine.namespaces))
        aged.sync.expire()
        return aged

    def ttl(self, number: int) -> float | None:
        """Return the learnt time to live of an upstream; None when it is not synced by age."""
        aged = self._known.get(number)
        return aged.sync.ttl_s if aged is not None else None
