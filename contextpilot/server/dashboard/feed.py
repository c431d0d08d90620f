"""What the dashboard shows: sums, history, engines and requests, without any prompt text."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from heapq import nlargest
from itertools import pairwise
from typing import Any

from contextpilot import __version__
from contextpilot.server.dashboard.tree import branches
from contextpilot.server.observe.metrics import Metrics
from contextpilot.server.observe.reasons import counted, volatile
from contextpilot.server.observe.records import Record, Records
from contextpilot.server.pool.engine_pool import EnginePool
from contextpilot.server.pool.member import Engine

_SEARCHED = 2000
_SHOWN = 6
_MAX_NAMESPACES = 50
_NO_PROMPT = "no-prompt"
_INDEX_APIS = ("reorder", "optimize")


class Feed:
    """Reads a pool and its records. Thread-safe: all that it reads may change meanwhile."""

    def __init__(self, pool: EnginePool, records: Records, metrics: Metrics) -> None:
        self._pool = pool
        self._records = records
        self._metrics = metrics
        self._secret = secrets.token_bytes(16)

    def read(self) -> dict[str, Any]:
        """Return everything but the tree."""
        engines = self._pool.engines
        known = self._pool.receiver.engines()
        states = [e.state(self._pool.receiver.sync_of(e, known)) for e in engines]
        latest = self._records.latest(_SEARCHED)
        return {
            "version": __version__,
            "time": time.time(),
            "engines": [{**s, "real": e.is_real} for s, e in zip(states, engines, strict=True)],
            "requests": self._requests(),
            "totals": _totals(engines),
            "measured": _measured(latest),
            "history": _history(engines),
            "indexes": {engine.name: self._indexes(engine) for engine in engines},
            "slowest": _top(latest, lambda record: record.first_byte_s or 0.0),
            "worst": _top(latest, _missed),
        }

    def _requests(self) -> dict[str, Any]:
        """Return how many requests were planned, and why the others were not.

        "applications" are plans that the index API made; such requests run elsewhere.
        """
        outcomes = self._metrics.by_label("requests_total", "outcome")
        unplanned = self._metrics.by_label("unplanned_total", "reason")
        no_prompt = unplanned.pop(_NO_PROMPT, 0)
        added = self._records.added.copy()
        return {
            "planned": outcomes["planned"],
            "unplanned": sum(unplanned.values()),
            "refused": outcomes["refused"],
            "no_prompt": no_prompt,
            "applications": sum(added[api] for api in _INDEX_APIS),
            "why_missed": volatile(self._metrics.by_label("volatile_heads_total", "kind")),
            "why_unplanned": counted(unplanned, is_refused=False),
            "why_refused": counted(
                self._metrics.by_label("refused_total", "reason"), is_refused=True
            ),
        }

    def tree(self, name: str, namespace: str, path: str) -> dict[str, Any] | None:
        """Return the branches below a path; None when engine, namespace or path are unknown."""
        engine = self._pool.find(name)
        if engine is None:
            return None
        for label, space in engine.namespaces.items():
            if self._label(label) == namespace:
                return branches(space.planner.index, engine.weights, path)
        return None

    def _indexes(self, engine: Engine) -> list[dict[str, Any]]:
        """Return the sizes of an engine's indexes, the largest first."""
        sizes = [(name, space.planner.index.stats()) for name, space in engine.namespaces.items()]
        largest = nlargest(_MAX_NAMESPACES, sizes, key=lambda named: named[1].num_blocks)
        return [{"namespace": self._label(name), **stats._asdict()} for name, stats in largest]

    def _label(self, namespace: str) -> str:
        """Return a name for a namespace that tells nothing of it, and lasts until a restart."""
        return blake2b(namespace.encode("utf-8", "surrogatepass"), key=self._secret).hexdigest()[:8]


def _totals(engines: Iterable[Engine]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for engine in engines:
        for name, value in engine.traffic._asdict().items():
            sums[name] = sums.get(name, 0) + value
    return sums


def _measured(records: Iterable[Record]) -> dict[str, int]:
    """Return the tokens that engines counted, over the records that have both counts."""
    counted = [r for r in records if r.cached_tokens is not None and r.prompt_tokens]
    return {
        "requests": len(counted),
        "prompt_tokens": sum(record.prompt_tokens or 0 for record in counted),
        "cached_tokens": sum(record.cached_tokens or 0 for record in counted),
    }


def _history(engines: Iterable[Engine]) -> list[list[float]]:
    """Return time, and the growth since the sample before of tokens, hits, plain hits, evictions.

    Samples of several engines stand beside each other, in order of time.
    """
    steps = []
    for engine in engines:
        samples = [*engine.history, engine.sample()]
        for before, now in pairwise(samples):
            growth = [b - a for a, b in zip(before.sums, now.sums, strict=True)]
            if any(growth):
                steps.append([round(now.at, 1), *growth])
    return sorted(steps)


def _missed(record: Record) -> float:
    """Rank by tokens that were seen before and yet not live; then by all that were not live."""
    told = record.explanation
    lost = max(0, told.reachable_tokens - told.matched_tokens)
    return lost + (told.total_tokens - told.matched_tokens) / 1e9


def _top(records: list[Record], rank: Callable[[Record], float]) -> list[dict[str, Any]]:
    ranked = sorted((r for r in records if rank(r) > 0), key=rank, reverse=True)
    return [_shown(record) for record in ranked[:_SHOWN]]


def _shown(record: Record) -> dict[str, Any]:
    told = record.explanation
    return {
        "request_id": record.request_id,
        "api": record.api,
        "engine": record.engine,
        "started": record.started,
        "first_byte_s": record.first_byte_s,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "matched_tokens": told.matched_tokens,
        "reachable_tokens": told.reachable_tokens,
        "total_tokens": told.total_tokens,
        "first_miss": told.first_miss,
        "reason": told.reason,
        "volatile": list(record.volatile),
    }
