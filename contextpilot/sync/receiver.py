"""Applies the engines' events to the index, and knows how far each engine can be believed.

What an engine tells of a request takes the place of the credit that its plan had; a snapshot, a
gap, a new epoch and `cleared` take that of everything known before. One reporter alone behind an
index is taken at its word for all: what it does not confirm is gone, and of a path that was cut
nobody holds more. Of several, each speaks for what it told itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from contextpilot.index import ContextIndex
from contextpilot.named import Told
from contextpilot.namespace import Namespace
from contextpilot.sync.events import Event, SyncMessage, parse_message
from contextpilot.sync.sources.base import PromptCounts, SlotHoldings, Source
from contextpilot.sync.sources.choice import source_of_kind
from contextpilot.sync.sources.request_events import RequestEvents
from contextpilot.tokens import TokenScale

logger = logging.getLogger(__name__)

SyncState = Literal["exact", "approximate", "off"]

STALE_AFTER_S = 20.0
"""Silence after which an engine's state counts as approximate: four missed heartbeats."""
GONE_AFTER_S = 120.0
"""Silence after which a reporter is gone if another one speaks for the same index."""
CREDIT_S = 120.0
"""Age after which a planned request is not believed if its engine told of later ones only."""
_EXPIRE_EVERY_S = 5.0
_MAX_REQUESTS = 1_000_000
_MAX_ENGINES = 1024


class Owner(NamedTuple):
    """Where a request was learnt: its index, and the lock to hold while using it.

    Attributes:
        tokens: takes the engine's counts of whole prompts; None where nobody learns from them.
    """

    tree: ContextIndex
    lock: AbstractContextManager[Any]
    tokens: TokenScale | None = None

    @classmethod
    def of(cls, space: Namespace) -> Owner:
        """Return what there is to know of the requests of a namespace."""
        return cls(space.index, space.lock, space.tokens)


Resolve = Callable[[str], Owner | None]


@dataclass
class _Engine:
    name: str
    epoch: str = ""
    kind: str = ""
    version: str = ""
    block_size: int = 1
    dropped: int = 0
    sparse: bool = False
    next_seq: int = 0
    synced: bool = True
    more: int = 0
    last_seen: float = 0.0
    expired: float = float("-inf")
    num_events: int = 0
    num_gaps: int = 0
    num_unknown: int = 0
    pid: int | None = None
    source: Source = field(default_factory=RequestEvents)
    requests: OrderedDict[str, None] = field(default_factory=OrderedDict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class SyncReceiver:
    """Receives messages of any number of engines. Thread-safe.

    Args:
        resolve: finds the index that learnt a request; None for requests of nobody here.
        clock: seconds, monotonic.
        indexes: returns all indexes that the engines fill; all engines share them.
    """

    def __init__(
        self,
        resolve: Resolve,
        clock: Callable[[], float] = time.monotonic,
        indexes: Callable[[], Iterable[Owner]] | None = None,
    ) -> None:
        self._resolve = resolve
        self._clock = clock
        self._shared = indexes
        self._engines: dict[str, _Engine] = {}
        self._lock = threading.Lock()

    def receive(self, message: SyncMessage) -> Literal["ok", "resync"]:
        """Apply a message; "resync" asks the engine for a snapshot.

        A message that was applied before is acknowledged and ignored. After a gap, or from an
        unknown epoch in mid-count, what was known of the engine counts as unknown. The work is
        linear in the events; no lock that other engines or readers need is held meanwhile.
        """
        engine = self._engine(message.engine)
        self._drop_silent(engine)
        with engine.lock:
            try:
                return self._take(engine, message)
            except BaseException:  # what was left of the message is lost
                engine.synced = False
                raise

    def take(self, content: Any) -> Literal["ok", "resync"]:
        """Apply decoded JSON as `receive` does; what is no message is a ValueError, and doubted."""
        try:
            message = parse_message(content)
        except ValueError:
            self._doubt(content)
            raise
        return self.receive(message)

    def _doubt(self, content: Any) -> None:
        """Believe nothing of the engine that a message names until its next snapshot."""
        named = content if isinstance(content, Mapping) else {}
        engine = self._engines.get(str(named.get("engine")))
        if engine is not None and engine.epoch == named.get("epoch"):
            with engine.lock:
                engine.synced = False

    def answered(self, name: str, answer: PromptCounts) -> None:
        """Note what the answer to a request of an engine told of its prompt."""
        self._note(name, lambda source: source.answered(answer))

    def broken_off(self, name: str, request_id: str) -> None:
        """Note that a request of an engine was broken off: where it has slots, none is believed."""
        self._note(name, lambda source: source.broken_off(request_id))

    def slots_of(self, name: str) -> SlotHoldings | None:
        """Return what the slots of an engine hold; None while that is not known.

        Ask it on the thread that calls `receive` only.
        """
        engine = self._engines.get(name)
        return engine.source.holdings if engine is not None and engine.synced else None

    def told_tokens(self, request_id: str) -> int | None:
        """Return the tokens that an engine told last of a request; None when it told nothing."""
        owner = self._resolve(request_id)
        if owner is None:
            return None
        with owner.lock:
            return owner.tree.told_tokens(request_id)

    def is_heard(self, name: str) -> bool:
        """Return whether a reporter told anything lately."""
        engine = self._engines.get(name)
        return engine is not None and self._clock() - engine.last_seen <= STALE_AFTER_S

    def hears_others(self, name: str) -> bool:
        """Return whether any reporter but this one told anything lately."""
        return any(self.is_heard(other) for other in list(self._engines) if other != name)

    def part(self, name: str) -> None:
        """Forget a reporter that tells nothing any more; of its peers all is asked for again."""
        engine = self._engines.get(name)
        if engine is None:
            return
        peers = list(self._peers(name))
        self._part(engine)
        for peer in peers:
            if peer in self._engines:
                self._engines[peer].synced = False

    def evict(self, request_ids: Iterable[str]) -> int:
        """Believe nothing of these requests (the simple form); return how many were known.

        What other requests hold of the same paths stays.
        """
        return sum(self._release(request_id) for request_id in request_ids)

    def engines(self) -> dict[str, dict[str, Any]]:
        """Return for each engine its sync state, the age of its last event, and counts."""
        with self._lock:
            engines = list(self._engines.items())
        now = self._clock()
        return {
            name: {
                "sync": _state(engine, now),
                "kind": engine.kind,
                "engine_version": engine.version,
                "block_size": engine.block_size,
                "sparse": engine.sparse,
                "last_event_age_s": round(now - engine.last_seen, 3),
                "num_events": engine.num_events,
                "num_gaps": engine.num_gaps,
                "num_unknown_requests": engine.num_unknown,
                "num_requests": len(engine.requests),
                **_source_state(engine),
            }
            for name, engine in engines
        }

    # -- whose index ------------------------------------------------------------------------------

    def _indexes(self, name: str) -> list[Owner]:  # noqa: ARG002
        """Return the indexes that an engine fills."""
        return list(self._shared()) if self._shared is not None else []

    def _peers(self, name: str) -> Collection[str]:
        """Return the other reporters that speak for the same indexes."""
        return self._engines.keys() - {name}

    def _parted(self, name: str) -> None:
        """Note that a reporter is known no longer."""

    # -- messages --------------------------------------------------------------------------------

    def _engine(self, name: str) -> _Engine:
        engine = self._engines.get(name)
        if engine is not None:
            return engine
        with self._lock:
            engine = self._engines.setdefault(name, _Engine(name, last_seen=self._clock()))
            over = len(self._engines) > _MAX_ENGINES
        if over:
            others = (other for other in list(self._engines.values()) if other is not engine)
            self._part(min(others, key=lambda other: other.last_seen))
        return engine

    def _take(self, engine: _Engine, message: SyncMessage) -> Literal["ok", "resync"]:
        known = engine.epoch == message.epoch
        if not known:
            self._restart(engine, message)
        engine.last_seen = self._clock()
        if message.snapshot and not (known and message.seq < engine.next_seq):
            self._forget(engine)
            engine.next_seq, engine.synced = message.seq, True
        elif message.snapshot:
            return "ok"
        if not engine.synced:
            return "resync"
        if message.seq < engine.next_seq:
            return "ok"
        if message.seq > engine.next_seq:
            engine.num_gaps += 1
            engine.synced = False
            self._forget(engine)
            logger.warning("messages of engine %r are missing: resync", message.engine)
            return "resync"
        engine.next_seq += 1
        self._apply(engine, message)
        return "ok"

    def _restart(self, engine: _Engine, message: SyncMessage) -> None:
        """Begin a new epoch: the cache of an engine that restarted is empty."""
        if engine.epoch:
            self._forget(engine)
        engine.epoch, engine.kind = message.epoch, message.kind
        engine.version, engine.block_size = message.engine_version, message.block_size
        engine.next_seq = engine.num_events = engine.num_gaps = engine.num_unknown = 0
        engine.synced = message.snapshot or message.seq == 0
        engine.pid = message.pid
        engine.source = source_of_kind(message.kind)(self._clock)

    def _apply(self, engine: _Engine, message: SyncMessage) -> None:
        engine.more, engine.dropped = message.more, message.dropped
        engine.sparse = message.sparse
        engine.num_events += len(message.events) + len(message.slot_events)
        is_final = engine.source.is_final
        is_alone = not is_final and self._is_alone(engine)
        for event in engine.source.read(message):
            if event.kind == "cleared":
                self._forget(engine)
            else:
                self._learn(engine, event, is_alone, is_final)
        now = self._clock()
        if now - engine.expired >= _EXPIRE_EVERY_S:
            engine.expired = now
            for owner in self._indexes(engine.name):
                with owner.lock:
                    owner.tree.describe(engine.block_size, engine.dropped, engine.sparse)
                    owner.tree.expire(now, CREDIT_S)

    def _note(self, name: str, tell: Callable[[Source], Iterable[Event]]) -> None:
        engine = self._engines.get(name)
        if engine is None:
            return
        with engine.lock:
            for event in tell(engine.source):
                self._learn(engine, event, is_final=engine.source.is_final)

    # -- what is believed ------------------------------------------------------------------------

    def _learn(
        self, engine: _Engine, event: Event, is_alone: bool = False, is_final: bool = False
    ) -> None:
        """Take what an engine says of a request; `is_final`: no more of it is on its way."""
        request_id = event.request
        owner = self._resolve(request_id)
        if owner is None:
            engine.num_unknown += 1
            engine.requests.pop(request_id, None)
            return
        tree = owner.tree
        # a block that lacks less than one engine block still hits all but that
        told = Told(event.tokens, event.prompt_tokens, engine.block_size - 1, event.points)
        with owner.lock:
            tree.describe(engine.block_size, engine.dropped, engine.sparse)
            if event.prompt_tokens and owner.tokens is not None:
                owner.tokens.count(request_id, event.prompt_tokens)
            if event.kind == "unfollowed":
                tree.unfollow(request_id)
            elif event.kind == "truncated" and is_alone and not engine.sparse:
                tree.set_cached(request_id, *told)
            elif event.kind == "truncated" or is_final:
                tree.limit_cached(request_id, *told)
            else:
                tree.add_cached(request_id, *told)
        engine.requests.pop(request_id, None)
        if event.kind != "unfollowed" and event.tokens:
            engine.requests[request_id] = None
            self._shorten(engine.requests)

    def _shorten(self, requests: OrderedDict[str, None]) -> None:
        """Let the oldest go of which the index has no name any more, and what is too much."""
        while requests and self._resolve(next(iter(requests))) is None:
            requests.popitem(last=False)
        if len(requests) > _MAX_REQUESTS:
            self._release(requests.popitem(last=False)[0])

    def _forget(self, engine: _Engine) -> None:
        """Drop all that an engine told, and what was planned and told by none."""
        told, engine.requests = engine.requests, OrderedDict()
        indexes = self._indexes(engine.name)
        is_alone = self._is_alone(engine)
        if not (is_alone and indexes):
            for request_id in told:
                self._release(request_id)
        for owner in indexes:
            with owner.lock:
                if is_alone:
                    owner.tree.empty()
                else:
                    owner.tree.forget_credit()

    def _release(self, request_id: str) -> bool:
        owner = self._resolve(request_id)
        if owner is None:
            return False
        with owner.lock:
            owner.tree.release(request_id)
        return True

    # -- engines that come and go ----------------------------------------------------------------

    def _is_alone(self, engine: _Engine) -> bool:
        """Return whether no other reporter holds anything of the same indexes."""
        peers = (self._engines.get(name) for name in list(self._peers(engine.name)))
        return not any(peer is not None and peer.requests for peer in peers)

    def _drop_silent(self, engine: _Engine) -> None:
        oldest = self._clock() - GONE_AFTER_S
        for name in list(self._peers(engine.name)):
            peer = self._engines.get(name)
            if peer is not None and peer.last_seen < oldest:
                self._part(peer)

    def _part(self, engine: _Engine) -> None:
        """Forget an engine, and what it alone told."""
        with self._lock:
            if self._engines.get(engine.name) is engine:
                del self._engines[engine.name]
        self._parted(engine.name)
        with engine.lock:
            for request_id in engine.requests:
                self._release(request_id)
            engine.requests.clear()
            engine.source = RequestEvents()


def _source_state(engine: _Engine) -> dict[str, Any]:
    told = engine.source.state()
    return {"pid": engine.pid, **told} if told else {}


def _state(engine: _Engine, now: float) -> SyncState:
    if not engine.synced or engine.more or now - engine.last_seen > STALE_AFTER_S:
        return "approximate"
    return "exact"
