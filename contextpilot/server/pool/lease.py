"""One request's place at an engine: planned there, and followed until its answer is through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from contextpilot.engines.base import SlotWish
from contextpilot.engines.usage import Usage
from contextpilot.plan.online import Plan
from contextpilot.planning import Job, Planned
from contextpilot.server.offload import are_many, offload_planning
from contextpilot.server.pool.expected_cache import Expectation
from contextpilot.server.pool.kv_follower import SentRequest
from contextpilot.server.pool.member import Engine
from contextpilot.server.pool.pool_receiver import PoolReceiver
from contextpilot.server.pool.prompt_path import path_of
from contextpilot.server.pool.slot_tracking import SlotTracking
from contextpilot.server.pool.waiting import UnplannedRequest


class Lease:
    """One request's place at an engine.

    Attributes:
        wish: where an engine with slots may run it.
        runs: whether the request will run there, or is planned only.
        waited_s: seconds that the request waited for its place.
    """

    def __init__(
        self,
        engine: Engine,
        receiver: PoolReceiver,
        request: UnplannedRequest,
        ready: Plan | None,
        estimate: int,
    ) -> None:
        self._engine = engine
        self._receiver = receiver
        self._request = request
        self._ready = ready
        self._pending = estimate
        self._unconfirmed: Sequence[Planned] = ()
        self._tracking: SlotTracking | None = None
        self._asked: tuple[str, str] | None = None
        self._sent: SentRequest | None = None
        self._was_read = False
        self._prompt_tokens: int | None = None
        self.wish = SlotWish()
        self.runs = True
        self.waited_s = 0.0
        self.has_failed = False
        engine.pending_tokens += estimate

    @property
    def engine(self) -> Engine | None:
        """The engine; None when the pool has none, and only plans."""
        return self._engine if self._engine.is_real else None

    def plan(self, job: Job) -> list[Planned]:
        """Return the job's requests in execution order, each learnt already.

        A plan made while the request waited is used if the job is what was leased.
        """
        return self._note(job, self._engine.plan(job, self._ready_for(job)))

    async def run(self, job: Job, max_wait_s: float = math.inf) -> list[Planned]:
        """Plan as `plan` does: on a thread what is large, or what had to wait for a thread.

        Args:
            max_wait_s: raise LateError where no thread has begun by then.
        """
        if self._engine.sync_by_age is not None:
            self._engine.sync_by_age.expire()
        plan = partial(self._engine.plan, job, self._ready_for(job))
        if are_many(job.contexts) or self._engine.is_busy(job.namespace):
            take_back = self._engine.retract if self.runs else None  # the client has gone
            planned = await offload_planning(plan, max_wait_s, take_back)
        else:
            planned = plan()
        return self._note(job, planned)

    def _note(self, job: Job, planned: list[Planned]) -> list[Planned]:
        engine = self._engine
        if self.runs:
            if len(planned) == 1:
                planned = [self._follow(job, planned[0])]
            self._unconfirmed = planned
        elif engine.sync_by_age is not None:  # whoever asked sends it now
            for one in planned:
                engine.sync_by_age.note(job.namespace, path_of(job, one))
        return planned

    def _follow(self, job: Job, planned: Planned) -> Planned:
        """Follow a planned request; return it with no more live than its slot has of it."""
        self._asked = job.namespace, planned.request_id
        if not self._engine.slots or self._tracking is not None:
            return planned
        self._tracking = SlotTracking(self._engine, self._receiver, job, planned, self.wish)
        there = self._tracking.planned
        less = planned.explanation.matched_tokens - there.explanation.matched_tokens
        if less:
            self._engine.found_less(job.namespace, less)
        return there

    def expectation(self, job: Job, planned: Planned) -> Expectation | None:
        """Return what the engine should have cached of a planned request; None where it tells."""
        by_age, tells_writes = self._engine.sync_by_age, bool(self._engine.kind.usage.written)
        if by_age is None:
            return None
        return Expectation.of(by_age, job, planned, tells_writes=tells_writes)

    @property
    def id_slot(self) -> int | None:
        """The slot to ask for, once planned; None to leave the choice to the engine."""
        return self._tracking.slot if self._tracking is not None else None

    def sent(self, request: SentRequest) -> None:
        """Note what goes to the engine."""
        self._sent = request

    def answered(self, usage: Usage, generated: int | None) -> None:
        """Note what the whole answer told of its tokens."""
        self._prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens and self._asked is not None:
            self._engine.counted(*self._asked, usage.prompt_tokens)
        if self._tracking is not None:
            self._tracking.answered(usage, generated)

    def first_byte(self) -> None:
        """Note that the answer began: the prompt no longer stands before others."""
        self._engine.pending_tokens -= self._pending
        self._pending = 0

    def confirm(self) -> None:
        """Note that the engine read the prompt: what was planned is in its cache."""
        self._unconfirmed = ()
        self._was_read = True
        if self._tracking is not None:
            self._tracking.arrived()

    def failed(self) -> None:
        """Note that the engine could not be reached."""
        self.has_failed = True
        self.retract()

    def retract(self) -> None:
        """Take back what is planned and not confirmed: it never reached the cache."""
        planned, self._unconfirmed = self._unconfirmed, ()
        self._engine.retract(planned)

    def end(self) -> None:
        """Give the place back."""
        self.first_byte()
        self.retract()
        if self._tracking is not None:
            self._tracking.end()
        if self._engine.kv_events is not None and self._sent is not None and self._was_read:
            self._engine.kv_events.follow(self._sent, self._prompt_tokens)

    def _ready_for(self, job: Job) -> Plan | None:
        """Return the plan that was made while the request waited, if the job is what was leased."""
        own = self._request
        if self._ready is None or len(job.contexts) != 1:
            return None
        same = (job.namespace, job.head, job.bounds) == (own.namespace, own.head, own.bounds)
        fits = same and [b.key for b in job.contexts[0]] == [b.key for b in own.blocks]
        return self._ready if fits else None
