"""Applies the engines' events to the index, and knows how far each engine can be believed."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from contextpilot.index import ContextIndex
from contextpilot.sync.events import SLOT_ENGINE, Event, SyncMessage
from contextpilot.sync.slots import Answer, SlotTranslator

logger = logging.getLogger(__name__)

SyncState = Literal["exact", "approximate", "off"]

STALE_AFTER_S = 20.0
"""Silence after which an engine's state counts as approximate: four missed heartbeats."""
_MAX_REQUESTS = 1_000_000


class Owner(NamedTuple):
    """Where a request was learnt: its index, and the lock to hold while using it."""

    tree: ContextIndex
    lock: AbstractContextManager[Any]


Resolve = Callable[[str], Owner | None]


@dataclass
class _Engine:
    epoch: str
    kind: str
    version: str
    block_size: int
    next_seq: int = 0
    synced: bool = True
    last_seen: float = 0.0
    num_events: int = 0
    num_gaps: int = 0
    num_unknown: int = 0
    pid: int | None = None
    slots: SlotTranslator | None = None
    requests: OrderedDict[str, None] = field(default_factory=OrderedDict)


class SyncReceiver:
    """Receives messages of any number of engines. Thread-safe.

    Args:
        resolve: finds the index that learnt a request; None for requests of nobody here.
        clock: seconds, monotonic.
    """

    def __init__(self, resolve: Resolve, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolve = resolve
        self._clock = clock
        self._engines: dict[str, _Engine] = {}
        self._lock = threading.Lock()

    def receive(self, message: SyncMessage) -> Literal["ok", "resync"]:
        """Apply a message; "resync" asks the engine for a snapshot.

        A message that was applied before is acknowledged and ignored. After a gap, or from an
        unknown epoch in mid-count, what was known of the engine counts as unknown.
        """
        with self._lock:
            engine = self._engine(message)
            engine.last_seen = self._clock()
            if message.snapshot:
                self._forget_requests(engine)
                engine.next_seq, engine.synced = message.seq, True
            if not engine.synced:
                return "resync"
            if message.seq < engine.next_seq:
                return "ok"
            if message.seq > engine.next_seq:
                engine.num_gaps += 1
                engine.synced = False
                self._forget_requests(engine)
                logger.warning("messages of engine %s are missing: resync", message.engine)
                return "resync"
            engine.next_seq += 1
            for event in message.events:
                self._apply(engine, event)
            self._apply_slots(engine, message)
            return "ok"

    def answered(self, name: str, answer: Answer) -> None:
        """Note what the answer to a request of an engine with slots told of its prompt."""
        with self._lock:
            engine = self._engines.get(name)
            if engine is not None and engine.slots is not None:
                self._follow(engine, engine.slots.answer(answer))

    def broken_off(self, name: str, request_id: str) -> None:
        """Note that a request of an engine with slots was broken off: none of it is believed."""
        with self._lock:
            engine = self._engines.get(name)
            if engine is not None and engine.slots is not None:
                self._follow(engine, engine.slots.abandon(request_id))

    def slots_of(self, name: str) -> SlotTranslator | None:
        """Return what the slots of an engine hold; None while that is not known.

        Ask it on the thread that calls `receive` only.
        """
        engine = self._engines.get(name)
        return engine.slots if engine is not None and engine.synced else None

    def evict(self, request_ids: Iterable[str]) -> int:
        """Forget requests wholly (the simple form); return how many were known."""
        known = 0
        for request_id in request_ids:
            owner = self._resolve(request_id)
            if owner is not None:
                with owner.lock:
                    owner.tree.truncate(request_id, 0)
                known += 1
        return known

    def engines(self) -> dict[str, dict[str, Any]]:
        """Return for each engine its sync state, the age of its last event, and counts."""
        with self._lock:
            now = self._clock()
            return {
                name: {
                    "sync": _state(engine, now),
                    "kind": engine.kind,
                    "engine_version": engine.version,
                    "block_size": engine.block_size,
                    "last_event_age_s": round(now - engine.last_seen, 3),
                    "num_events": engine.num_events,
                    "num_gaps": engine.num_gaps,
                    "num_unknown_requests": engine.num_unknown,
                    "num_requests": len(engine.requests),
                    **_slot_state(engine),
                }
                for name, engine in self._engines.items()
            }

    def _engine(self, message: SyncMessage) -> _Engine:
        engine = self._engines.get(message.engine)
        if engine is not None and engine.epoch == message.epoch:
            return engine
        if engine is not None:  # the engine restarted: its cache is empty
            self._forget_requests(engine)
        engine = _Engine(message.epoch, message.kind, message.engine_version, message.block_size)
        engine.synced = message.snapshot or message.seq == 0
        engine.pid = message.pid
        if message.kind == SLOT_ENGINE:
            engine.slots = SlotTranslator(self._clock)
        self._engines[message.engine] = engine
        return engine

    def _apply_slots(self, engine: _Engine, message: SyncMessage) -> None:
        if engine.slots is None:
            return
        engine.num_events += len(message.slot_events)
        if message.ram_limit_bytes is not None:
            engine.slots.limit_ram(message.ram_limit_bytes)
        self._follow(engine, engine.slots.apply(message.slot_events, snapshot=message.snapshot))

    def _follow(self, engine: _Engine, events: Iterable[Event]) -> None:
        for event in events:
            self._apply(engine, event, told=0)

    def _apply(self, engine: _Engine, event: Event, told: int = 1) -> None:
        engine.num_events += told
        if event.kind == "cleared":
            self._forget_requests(engine)
            return
        owner = self._resolve(event.request)
        if owner is None:
            engine.num_unknown += 1
            return
        # a block that lacks less than one engine block still hits all but that
        tokens = event.tokens + engine.block_size - 1 if event.tokens else 0
        with owner.lock:
            owner.tree.set_cached(event.request, tokens, event.prompt_tokens)
        engine.requests[event.request] = None
        engine.requests.move_to_end(event.request)
        if len(engine.requests) > _MAX_REQUESTS:
            engine.requests.popitem(last=False)

    def _forget_requests(self, engine: _Engine) -> None:
        for request_id in engine.requests:
            owner = self._resolve(request_id)
            if owner is not None:
                with owner.lock:
                    owner.tree.truncate(request_id, 0)
        engine.requests.clear()


def _slot_state(engine: _Engine) -> dict[str, Any]:
    if engine.slots is None:
        return {}
    matched, unmatched = engine.slots.counts
    return {"pid": engine.pid, "num_matched": matched, "num_unmatched": unmatched}


def _state(engine: _Engine, now: float) -> SyncState:
    if not engine.synced or now - engine.last_seen > STALE_AFTER_S:
        return "approximate"
    return "exact"
