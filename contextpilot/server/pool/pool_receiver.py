"""The engines' events, for a pool: whose they are, and what they say of an engine's life."""

from __future__ import annotations

import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from contextpilot.server.pool.member import Engine
from contextpilot.sync.events import SyncMessage
from contextpilot.sync.receiver import Owner, SyncReceiver
from contextpilot.sync.sources.choice import source_of_kind

_ORDER = ("exact", "approximate", "off")
_MAX_DISMISSED = 1024


class PoolReceiver(SyncReceiver):
    """Receives the events of a pool's engines; learns from their requests which is which.

    Args:
        engines: returns the engines that there are now.
    """

    def __init__(
        self, engines: Callable[[], Sequence[Engine]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(self._owner, clock)
        self._pool = engines
        self._dismissed: OrderedDict[str, None] = OrderedDict()

    def receive(self, message: SyncMessage) -> Literal["ok", "resync"]:
        """Apply a message; after a restart or a reset the engine's cache is empty."""
        engine = self._bind(message)
        if engine is not None and self._is_emptied(engine, message):
            engine.forget()
        before = self._num_cuts(message.engine)
        reply = super().receive(message)
        dropped = self._num_cuts(message.engine) - before
        if engine is not None and dropped > 0:
            engine.count(evicted=dropped)
        return reply

    def distrust(self, engine: Engine) -> None:
        """Ask the engine's reporters for a snapshot with their next message."""
        with self._lock:
            for name in set(engine.reporters) & self._engines.keys():
                self._engines[name].synced = False

    def dismiss(self, engine: Engine) -> None:
        """Take an engine's reporters, who may go on for a while, for no other's; call it first."""
        self._dismissed.update(dict.fromkeys(engine.reporters))
        while len(self._dismissed) > _MAX_DISMISSED:
            self._dismissed.popitem(last=False)

    def forget_reporters(self, engine: Engine) -> None:
        """Forget what the reporters of an engine that left have told; much takes long."""
        for name in list(engine.reporters):
            known = self._engines.get(name)
            if known is not None:
                self._part(known)

    def told_by(self, engine: Engine, name: str, message: SyncMessage) -> Literal["ok", "resync"]:
        """Apply a message of a reporter whose engine is known."""
        if engine.has_left:
            return "ok"
        engine.reporters.add(name)
        return self.receive(message)

    def has_others(self, engine: Engine, name: str) -> bool:
        """Return whether other reporters than this one told of an engine lately."""
        return any(self.is_heard(other) for other in list(engine.reporters) if other != name)

    def doubt_reporters(self) -> None:
        """Learn anew whose the reporters are: another engine has joined the only one."""
        for engine in self._pool():
            engine.reporters = set()

    def slot_reporter(self, engine: Engine) -> str | None:
        """Return the reporter that tells of an engine's slots; None when there is not just one."""
        names = [name for name in list(engine.reporters) if self.slots_of(name) is not None]
        return names[0] if len(names) == 1 else None

    def sync_of(
        self, engine: Engine, known: dict[str, dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Return how far an engine's state is known: the worst of its reporters.

        Args:
            known: what `engines` returned just now, for callers who ask of many engines.
        """
        known = self.engines() if known is None else known
        reports = [known[name] for name in list(engine.reporters) if name in known]
        states = [str(report["sync"]) for report in reports] or ["off"]
        ages = [float(report["last_event_age_s"]) for report in reports]
        kinds = sorted({str(report["kind"]) for report in reports})
        return {
            "sync": max(states, key=_ORDER.index),
            "last_event_age_s": min(ages) if ages else None,
            "kind": kinds[0] if kinds else "",
        }

    def _indexes(self, name: str) -> list[Owner]:
        spaces = [e.namespaces.items() for e in self._pool() if name in e.reporters]
        return [Owner.of(space) for found in spaces for _, space in found]

    def _peers(self, name: str) -> Collection[str]:
        return next((set(e.reporters) - {name} for e in self._pool() if name in e.reporters), ())

    def _parted(self, name: str) -> None:
        for engine in self._pool():
            engine.reporters.discard(name)

    def _is_emptied(self, engine: Engine, message: SyncMessage) -> bool:
        if len(engine.reporters) > 1:  # a router's engines: the others still hold their part
            return False
        known = self._engines.get(message.engine)
        if known is not None and known.epoch != message.epoch:
            return True
        kinds = [e.kind for e in message.events] + [e.kind for e in message.slot_events]
        return "cleared" in kinds

    def _bind(self, message: SyncMessage) -> Engine | None:
        """Return the engine that a reporter speaks for; None until it names one of our requests."""
        pool = self._pool()
        for engine in pool:
            if message.engine in engine.reporters:
                return engine
        if len(pool) == 1 and message.engine not in self._dismissed:
            found: Engine | None = pool[0]
        elif source_of_kind(message.kind).is_named_by_address:
            found = _at_address(pool, message.engine)
        else:
            found = next(filter(None, (self._of(event.request) for event in message.events)), None)
        if found is not None:
            found.reporters.add(message.engine)
            self._dismissed.pop(message.engine, None)
        return found

    def _num_cuts(self, name: str) -> int:
        known = self._engines.get(name)
        return known.source.num_cuts if known is not None else 0

    def _of(self, request_id: str) -> Engine | None:
        return next((e for e in self._pool() if e.namespaces.owner(request_id) is not None), None)

    def _owner(self, request_id: str) -> Owner | None:
        for engine in self._pool():
            space = engine.namespaces.owner(request_id)
            if space is not None:
                return Owner.of(space)
        return None


def _at_address(pool: Sequence[Engine], name: str) -> Engine | None:
    """Return the engine at the port that a reporter's name ends in, on a host named in it."""
    at_port = []
    for engine in pool:
        place = urllib.parse.urlsplit(engine.url)
        if place.port is not None and name.endswith(f"-{place.port}"):
            at_port.append((engine, place.hostname or ""))
    named = [engine for engine, host in at_port if f"-{host}-" in name]
    found = named if len(at_port) > 1 else [engine for engine, _ in at_port]
    return found[0] if len(found) == 1 else None
