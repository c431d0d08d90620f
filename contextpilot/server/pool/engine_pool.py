"""The engine pool: each request goes where most of its prompt is cached, weighed against load."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from contextpilot.block import Block, BlockKey
from contextpilot.engines.base import Get, SlotWish
from contextpilot.engines.fetch import TIMEOUT_S, Fetch
from contextpilot.engines.usage import Usage
from contextpilot.http.pooled import Upstream
from contextpilot.namespace import Namespaces
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import NO_HEAD, Head, Plan
from contextpilot.planning import Job, Planned
from contextpilot.server.offload import are_many, offload_planning
from contextpilot.server.pool.health import Pulse, Rhythm
from contextpilot.server.pool.holders import Holders
from contextpilot.server.pool.member import Engine, path_of
from contextpilot.server.pool.reports import PoolReceiver
from contextpilot.server.pool.routing import cheapest, with_home
from contextpilot.server.pool.slot_tracking import Following
from contextpilot.server.pool.waiting import Ageing, Errand

logger = logging.getLogger(__name__)

_BATCH = "contextpilot.plan.batch"
_MAX_CONVERSATIONS = 100_000
_CANCEL_AGAIN_S = 0.1
_AGE_EVERY_S = 1.0


class EngineDownError(ConnectionError):
    """No engine is left that could serve a request."""


class Lease:
    """One request's place at an engine.

    Attributes:
        wish: where a llama-server may run it.
        runs: whether the request will run there, or is planned only.
        waited_s: seconds that the request waited for its place.
    """

    def __init__(
        self,
        engine: Engine,
        receiver: PoolReceiver,
        errand: Errand,
        ready: Plan | None,
        estimate: int,
    ) -> None:
        self._engine = engine
        self._receiver = receiver
        self._errand = errand
        self._ready = ready
        self._pending = estimate
        self._unconfirmed: Sequence[Planned] = ()
        self._following: Following | None = None
        self._asked: tuple[str, str] | None = None
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

    async def run(self, job: Job) -> list[Planned]:
        """Plan as `plan` does: on a thread what is large, or what had to wait for a thread."""
        if self._engine.ttl_sync is not None:
            self._engine.ttl_sync.expire()
        on_thread = are_many(job.contexts) or self._engine.is_busy(job.namespace)
        work = offload_planning(on_thread, self._engine.plan, job, self._ready_for(job))
        planning = asyncio.ensure_future(work) if on_thread else None
        try:
            planned = await (asyncio.shield(planning) if planning else work)
        except asyncio.CancelledError:
            if planning is not None and self.runs:  # the thread goes on, and will learn the plan
                planning.add_done_callback(self._take_back)
            raise
        return self._note(job, planned)

    def _take_back(self, planning: asyncio.Future[list[Planned]]) -> None:
        """Retract what a thread planned for a client that had gone."""
        if not planning.cancelled() and planning.exception() is None:
            self._engine.retract(planning.result())

    def _note(self, job: Job, planned: list[Planned]) -> list[Planned]:
        engine = self._engine
        if self.runs:
            if len(planned) == 1:
                planned = [self._follow(job, planned[0])]
            self._unconfirmed = planned
        elif engine.ttl_sync is not None:  # whoever asked sends it now
            for one in planned:
                engine.ttl_sync.note(job.namespace, path_of(job, one))
        return planned

    def _follow(self, job: Job, planned: Planned) -> Planned:
        """Follow a planned request; return it with no more live than its slot has of it."""
        self._asked = job.namespace, planned.request_id
        if not self._engine.slots or self._following is not None:
            return planned
        self._following = Following(self._engine, self._receiver, job, planned, self.wish)
        there = self._following.planned
        less = there.explanation.matched_tokens - planned.explanation.matched_tokens
        if less:
            self._engine.count(live_tokens=less)
        return there

    @property
    def id_slot(self) -> int | None:
        """llama-server's slot to ask for, once planned; None to leave the choice to it."""
        return self._following.slot if self._following is not None else None

    def answered(self, usage: Usage, generated: int | None) -> None:
        """Note what the whole answer told of its tokens."""
        if usage.prompt_tokens and self._asked is not None:
            self._engine.counted(*self._asked, usage.prompt_tokens)
        if self._following is not None:
            self._following.answered(usage, generated)

    def first_byte(self) -> None:
        """Note that the answer began: the prompt no longer stands before others."""
        self._engine.pending_tokens -= self._pending
        self._pending = 0

    def confirm(self) -> None:
        """Note that the engine read the prompt: what was planned is in its cache."""
        self._unconfirmed = ()
        if self._following is not None:
            self._following.arrived()

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
        if self._following is not None:
            self._following.end()

    def _ready_for(self, job: Job) -> Plan | None:
        """Return the plan that was made while the request waited, if the job is what was leased."""
        own = self._errand
        if self._ready is None or len(job.contexts) != 1:
            return None
        same = (job.namespace, job.head, job.bounds) == (own.namespace, own.head, own.bounds)
        fits = same and [b.key for b in job.contexts[0]] == [b.key for b in own.blocks]
        return self._ready if fits else None


class EnginePool:
    """Engines, each with its own part of the index. For use on one event loop.

    Args:
        urls: base URLs; none for an index without engines.
        namespaces: makes the part of the index of one engine.
        max_in_flight: requests that each engine takes at once; None to learn it from the engine.
        ageing: how long requests that wait may be passed over.
        unchecked: URLs that are taken to be up and never probed: clouds, say.
        get: fetches a URL, for health checks; default: over HTTP.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespaces: Callable[[], Namespaces],
        *,
        max_in_flight: int | None = None,
        ageing: Ageing | None = None,
        unchecked: Collection[str] = (),
        rhythm: Rhythm | None = None,
        get: Get | None = None,
    ) -> None:
        places: list[str | None] = [url.rstrip("/") for url in urls] or [None]
        if len(set(places)) < len(places):
            raise ValueError("engine URLs must differ from each other")
        weights: OrderedDict[BlockKey, int] = OrderedDict()
        self.engines = [
            Engine(number, url, namespaces(), max_in_flight, ageing, weights)
            for number, url in enumerate(places)
        ]
        self._holders = Holders() if len(self.engines) > 1 else None
        if self._holders is not None:
            for engine in self.engines:
                engine.namespaces.watcher = self._holders.watcher(engine.number)
        self._unchecked = {url.rstrip("/") for url in unchecked}
        self.receiver = PoolReceiver(self.engines)
        self._rhythm = rhythm or Rhythm()
        self._get = get
        self._pulses: dict[int, Pulse] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._upstream: Upstream | None = None
        self._conversations: OrderedDict[tuple[str, str], int] = OrderedDict()

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin the health checks, and load what plans windows before the first has to wait."""
        self._tasks.append(asyncio.create_task(asyncio.to_thread(import_module, _BATCH)))
        if self._get is None:
            self._upstream = Upstream(TIMEOUT_S, TIMEOUT_S)
            self._get = Fetch(self._upstream)
        self._tasks.append(asyncio.create_task(self._age()))
        for engine in self.engines:
            if engine.url in self._unchecked:
                engine.up = True
            elif engine.is_real:
                pulse = Pulse(engine, self._get, self._bury, self._rhythm)
                self._pulses[engine.number] = pulse
                self._tasks.append(asyncio.create_task(pulse.run()))

    async def close(self) -> None:
        """End the health checks."""
        left = {task for task in self._tasks if not task.done()}
        while left:  # Python's `wait_for` may swallow a cancellation in the moment that it ends
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._upstream is not None:
            self._upstream.close()

    async def _age(self) -> None:
        """Let what is synced by age expire when it is due, and not with the next request."""
        while True:
            await asyncio.sleep(_AGE_EVERY_S)
            for engine in self.engines:
                while engine.ttl_sync is not None and engine.ttl_sync.expire():
                    await asyncio.sleep(0)

    def _bury(self, engine: Engine) -> None:
        """Forget a dead engine's part of the index; who waited there goes elsewhere."""
        if engine.forgets_at_once():
            engine.forget()
        else:
            asyncio.get_running_loop().run_in_executor(None, engine.forget)
        self.receiver.distrust(engine)
        engine.line.dismiss(EngineDownError(f"engine {engine.number} does not answer"))

    # -- leases ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(
        self,
        namespace: str,
        blocks: Sequence[Block] = (),
        head: Head = NO_HEAD,
        conversation: str | None = None,
        /,
        *,
        bounds: Bounds | None = None,
        exclude: Collection[int] = (),
        wait: bool = True,
    ) -> AsyncIterator[Lease]:
        """Choose an engine for a request, and wait for it while it is saturated.

        Args:
            conversation: its requests stay at one engine while that is worth it.
            bounds: as in the job that will be planned; waiting requests are planned with them.
            exclude: numbers of engines that failed this request before.
            wait: False for requests that are planned only, and do not run here.

        Raises:
            EngineDownError: every engine is excluded.
        """
        errand = Errand(namespace, blocks, head, bounds or Bounds())
        arrived = time.perf_counter()
        engine, ready, estimate = await self._enter(errand, conversation, exclude, wait)
        lease = Lease(engine, self.receiver, errand, ready, estimate if wait else 0)
        lease.runs = wait
        lease.waited_s = time.perf_counter() - arrived
        try:
            yield lease
        except Exception:
            lease.has_failed = True
            raise
        finally:
            lease.end()
            if wait:
                engine.count(**{"failed" if lease.has_failed else "served": 1})
                engine.line.leave()
            if lease.has_failed and engine.number in self._pulses:
                self._pulses[engine.number].hurry()

    async def _enter(
        self, errand: Errand, conversation: str | None, exclude: Collection[int], wait: bool
    ) -> tuple[Engine, Plan | None, int]:
        """Return the engine, the plan made while waiting, and the tokens to be computed there."""
        while True:
            engine, estimate = self._choose(errand, conversation, exclude)
            if not wait:
                return engine, None, estimate
            try:
                engine.pending_tokens += estimate
                return engine, await engine.line.enter(errand), estimate
            except EngineDownError:
                logger.info("a request that waited for engine %d goes elsewhere", engine.number)
            finally:
                engine.pending_tokens -= estimate

    def _choose(
        self, errand: Errand, conversation: str | None, exclude: Collection[int]
    ) -> tuple[Engine, int]:
        """Return the engine at which the request costs least, and the tokens to compute there.

        The cost is what has to be computed before its first token: what stands before it, and
        what of its own prompt is not cached. When all seem dead, the attempt tells.
        """
        left = [e for e in self.engines if e.number not in exclude] if exclude else self.engines
        if not left:
            raise EngineDownError("no engine is left for this request")
        candidates = [engine for engine in left if engine.up is not False] or left
        total = errand.head.tokens + sum([block.weight for block in errand.blocks])
        if self._holders is None:  # no choice: what is live need not be searched for twice
            return left[0], total
        name = (errand.namespace, conversation or "")
        home = self._conversations.get(name) if conversation else None
        weights = {block.key: block.weight for block in errand.blocks}
        live = self._holders.live_tokens(errand.namespace, errand.head, weights)
        standings = [(e.number, e.load, e.traffic.served) for e in candidates]
        number, saved = cheapest(standings, with_home(live, home, errand.head.tokens))
        if conversation:
            self._settle(name, number)
        return self.engines[number], max(0, total - saved)

    def _settle(self, name: tuple[str, str], number: int) -> None:
        self._conversations[name] = number
        self._conversations.move_to_end(name)
        if len(self._conversations) > _MAX_CONVERSATIONS:
            self._conversations.popitem(last=False)

    # -- what is known ---------------------------------------------------------------------------

    def health(self) -> list[dict[str, Any]]:
        """Return the state of each engine: up, sync, load, requests, waiting times."""
        real = [engine for engine in self.engines if engine.is_real]
        known = self.receiver.engines()
        return [engine.state(self.receiver.sync_of(engine, known)) for engine in real]

    def indexes(self) -> list[Namespaces]:
        """Return each engine's part of the index."""
        return [engine.namespaces for engine in self.engines]
