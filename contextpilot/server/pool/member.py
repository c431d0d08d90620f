"""One engine of a pool: its part of the index, its load, its waiting line, its state."""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from contextpilot.block import BlockKey
from contextpilot.engines.base import EngineKind
from contextpilot.engines.registry import OTHER
from contextpilot.http.address import Address, base_address, quoted
from contextpilot.namespace import Namespaces
from contextpilot.plan.online import Plan
from contextpilot.planning import Courtesy, Job, LocalPlanning, Planned
from contextpilot.server.pool.concurrency_limit import ConcurrencyLimit
from contextpilot.server.pool.kv_follower import KvFollower
from contextpilot.server.pool.original_order import OriginalOrderCache
from contextpilot.server.pool.slot_choice import Slots
from contextpilot.server.pool.sync_by_age import SyncByAge
from contextpilot.server.pool.waiting import Ageing, WaitingLine
from contextpilot.server.pool.windows import WindowPlanner
from contextpilot.sync.sources.kv_events.address import KvAddress

_MAX_SAMPLES = 360
_SAMPLE_INTERVAL_S = 10.0
_MAX_WEIGHTS = 200_000
_FORGETTING = ThreadPoolExecutor(1, "contextpilot-forget")
_FEW_NAMESPACES = 8
"""So many are forgotten in a few milliseconds."""
RUNNING_TOKENS = 64
"""Prefill tokens that a request which only generates counts for, as load."""


class EnginePlanning(LocalPlanning):
    """Plans against one engine's part of the index; takes plans made elsewhere, too."""

    def adopt(self, job: Job, plan: Plan) -> Planned:
        """Learn a plan of the job's one context, and what is live of it now."""
        space = self._namespaces.get(job.namespace)
        with space.lock:
            fresh = space.planner.finish(job.contexts[0], plan.order, job.head)
            planned = self._learn(space, job, 0, fresh)
        self._namespaces.settle(space)
        return planned


class Traffic(NamedTuple):
    """Sums over an engine's requests; tokens are of blocks, as estimated when planned.

    Attributes:
        served, failed: leases that ended well, or with an error.
        tokens: of all planned requests.
        live_tokens: believed to be in the cache.
        plain_tokens: that would be in it had no block moved (simulated).
        evicted: prompts of which the engine said that it dropped a part or all.
    """

    served: int = 0
    failed: int = 0
    tokens: int = 0
    live_tokens: int = 0
    plain_tokens: int = 0
    evicted: int = 0


class Sample(NamedTuple):
    """Sums of an engine's traffic at a time, in seconds since the epoch.

    Attributes:
        sums: tokens, live tokens, plain tokens, evicted prompts.
    """

    at: float
    sums: tuple[int, int, int, int]


class Engine:
    """An engine. For use on one event loop, apart from `plan`, which any thread may call.

    Args:
        name: unique in its pool.
        url: its base URL; None for an index without an engine.
        max_in_flight: how many requests it takes at once; None to learn it.
        weights: tokens of the newest blocks; shared by the engines of a pool.

    Attributes:
        kind: what kind of engine it is, as far as it was told.
        up: whether it answers; None until it was asked.
        reporters: names under which its processes tell of its cache.
        kv_address: where it publishes KV events; None where it publishes none.
        kv_events: follows its requests by its KV events; None where it publishes none.
        has_left: it is in the pool no more; what runs there ends there.
        times_emptied: how often its cache was found to be empty again.
    """

    def __init__(
        self,
        name: str,
        url: str | None,
        namespaces: Namespaces,
        max_in_flight: int | None = None,
        ageing: Ageing | None = None,
        weights: OrderedDict[BlockKey, int] | None = None,
    ) -> None:
        self.name = name
        self.url = url or ""
        self.shown_url = Address.of(url).url if url else ""
        self.is_real = url is not None
        self.namespaces = namespaces
        self.planning = EnginePlanning(namespaces)
        self.limit = ConcurrencyLimit(max_in_flight)
        self.line = WaitingLine(WindowPlanner(namespaces), self.limit, ageing)
        self.slots: Slots | None = None
        self.sync_by_age: SyncByAge | None = None
        self.kind: EngineKind = OTHER
        self.up: bool | None = None
        self.has_left = False
        self.times_emptied = 0
        self.reporters: set[str] = set()
        self.kv_address: KvAddress | None = None
        self.kv_events: KvFollower | None = None
        self.traffic = Traffic()
        self.pending_tokens = 0
        self.clock = time.time
        self.weights: OrderedDict[BlockKey, int] = OrderedDict() if weights is None else weights
        self.history: deque[Sample] = deque(maxlen=_MAX_SAMPLES)
        self._plain = OriginalOrderCache()
        self._lock = threading.Lock()

    @property
    def load(self) -> int:
        """Tokens that stand before a new request: prefill that waits or runs, and generation."""
        return self.pending_tokens + RUNNING_TOKENS * self.line.in_flight

    def meet(self, kind: EngineKind, num_slots: int = 0) -> None:
        """Learn what kind of engine this is, and how many slots it has; 0: none, or unknown."""
        if kind is not self.kind:
            self.kind, self.slots = kind, None
        if not kind.is_synced_by_age:
            self.sync_by_age = None
        elif self.sync_by_age is None:
            self.sync_by_age = SyncByAge(self.namespaces)
        if num_slots:
            self.slots = Slots(num_slots)
            self.limit.learn_slots(num_slots)

    def leave(self) -> None:
        """Be in the pool no more: what it held is nobody's to find, now and after each request."""
        self.has_left = True
        self.namespaces.watcher = None
        self.namespaces.reset()

    def is_busy(self, namespace: str) -> bool:
        """Return whether a thread is planning in a namespace now."""
        space = self.namespaces.find(namespace)
        if space is None or not space.lock.acquire(blocking=False):
            return space is not None
        space.lock.release()
        return False

    def plan(self, job: Job, ready: Plan | None = None) -> list[Planned]:
        """Plan a job, or adopt a plan that is ready; count it."""
        space = self.namespaces.get(job.namespace)
        planned = [self.planning.adopt(job, ready)] if ready else list(self.planning.run(job))
        held = space.planner.index.num_blocks
        with self._lock:
            if not self.history or self.clock() - self.history[-1].at > _SAMPLE_INTERVAL_S:
                self.history.append(self.sample())
        courtesy = Courtesy()
        for one in planned:
            courtesy.pause()
            with self._lock:
                self._count(job, one, held)
        return planned

    def retract(self, planned: Sequence[Planned]) -> None:
        """Forget what planned requests would have brought into the cache: they never ran.

        What other requests hold stays, and what the engine itself told of these.
        """
        for one in planned:
            space = self.namespaces.owner(one.request_id)
            if space is not None:
                with space.lock:
                    space.planner.index.end_credit(one.request_id)

    def forget_at_once(self) -> bool:
        """Forget, if that takes little and waits for no thread that is planning; say if it was."""
        spaces = self.namespaces.items()
        if len(spaces) > _FEW_NAMESPACES or any(self.is_busy(name) for name, _ in spaces):
            return False
        self.forget()
        return True

    def forget_beside(self) -> None:
        """Forget on a thread, after other engines that died with this one."""
        _FORGETTING.submit(self.forget)

    def forget(self) -> None:
        """Forget what the cache held: the engine is gone. What recurs stays known."""
        for _, space in list(self.namespaces.items()):
            with space.lock:
                space.planner.index.empty()
        with self._lock:
            self._plain.clear()
        if self.slots is not None:
            self.slots.clear()
        self.times_emptied += 1

    def counted(self, namespace: str, request_id: str, prompt_tokens: int) -> None:
        """Take the engine's count of a request's prompt."""
        space = self.namespaces.find(namespace)
        if space is not None:
            with space.lock:
                space.tokens.count(request_id, prompt_tokens)

    def found_less(self, namespace: str, tokens: int) -> None:
        """Take back so many tokens that were counted as live: a request does not find them."""
        self.count(live_tokens=-tokens)
        space = self.namespaces.find(namespace)
        if space is not None:
            with space.lock:
                space.counts.live_tokens -= tokens

    def sample(self) -> Sample:
        """Return the sums as they are now."""
        now = self.traffic
        sums = (now.tokens, now.live_tokens, now.plain_tokens, now.evicted)
        return Sample(self.clock(), sums)

    def count(self, **more: int) -> None:
        """Add to the sums of `traffic`."""
        with self._lock:
            old = self.traffic._asdict()
            self.traffic = self.traffic._replace(**{k: old[k] + n for k, n in more.items()})

    def state(self, sync: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of the engine, ready for JSON; `sync` is of its reporters.

        `up` is None until the first health check.
        """
        return {
            "engine": self.name,
            "url": self.shown_url,
            "up": self.up,
            **sync,
            **self._sync_by_age_state(),
            "kind": sync["kind"] or (self.kind.name if self.is_real else ""),
            "in_flight": self.line.in_flight,
            "max_in_flight": int(self.limit.value) if self.limit.is_known else None,
            "waiting": len(self.line),
            "pending_tokens": self.pending_tokens,
            "slots": len(self.slots) if self.slots is not None else None,
            "kv_events": self.kv_events.state() if self.kv_events is not None else None,
            **self.traffic._asdict(),
            "waited": self.line.totals._asdict(),
        }

    def _sync_by_age_state(self) -> dict[str, Any]:
        by_age = self.sync_by_age
        return {} if by_age is None else {"sync": "approximate", "ttl_s": round(by_age.ttl_s, 1)}

    def _count(self, job: Job, one: Planned, held: int) -> None:
        blocks, told = job.contexts[one.position], one.explanation
        weights = self.weights
        for block in blocks:
            weights[block.key] = block.weight
        while len(weights) > _MAX_WEIGHTS:
            weights.popitem(last=False)
        full = self.traffic.evicted > 0
        plain = self._plain.run(job.namespace, blocks, job.head, held, full)
        space = self.namespaces.find(job.namespace)
        if space is not None:
            plain = space.tokens.scale(plain)
        self.traffic = self.traffic._replace(
            tokens=self.traffic.tokens + told.total_tokens,
            live_tokens=self.traffic.live_tokens + told.matched_tokens,
            plain_tokens=self.traffic.plain_tokens + plain,
        )


def name_of(url: str) -> str:
    """Return the name of an engine that was given none: host, port and path of its URL.

    Raises ValueError for what is no http(s) address to which paths can be added.
    """
    try:
        base_address(url)
    except ValueError:
        text = f'url must be like "http://127.0.0.1:30000", not {quoted(url)}'
        raise ValueError(text) from None
    parts = urllib.parse.urlsplit(url.strip())
    return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
