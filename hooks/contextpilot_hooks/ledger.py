"""Request -> how many leading prompt tokens the engine still caches, exact and bounded.

Two threads meet here: the engine's scheduler writes, the reporter reads.

`Ledger` is for an engine that tells the number itself (SGLang: a read-only probe of its tree):

    ledger = Ledger()
    ledger.set("cp-...", tokens=2400, prompt_tokens=2431)     # grown or shrunk; 0: gone
    ledger.unfollow("cp-...")                                 # unknown from now on, not gone
    ledger.clear()                                            # whole cache was reset

`chain.ChainLedger` is for an engine with chained block hashes (vLLM), `points.PointLedger` for one
with layers that need a window or a state beside them. The scheduler only hands over lists of keys,
once a step; `take` works out, on the reporter's thread, which requests they touch.

| state                       | writer              | invariant                                  |
|-----------------------------|---------------------|--------------------------------------------|
| marks: request -> tokens    | scheduler, reporter | newest number; at most 4 * max_requests    |
| reported: request -> tokens | reporter            | what the index was told; tokens > 0; LRU   |
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

MAX_REQUESTS = 65_536
"""Some 530 bytes each in a ledger, the prompts' own blocks or tokens apart."""


Points = tuple[tuple[int, int], ...]
"""Lengths at which a prompt can be reused: ranges of whole blocks, first and last, ascending."""
_MAX_RANGES = 256


class Event(NamedTuple):
    """One change: `kind` is cached, truncated, unfollowed or cleared; numbers are tokens.

    `points`: what can be reused of `tokens`; None where every whole block can.
    """

    kind: str
    request: str = ""
    tokens: int = 0
    prompt_tokens: int = 0
    points: Points | None = None


class Mark(NamedTuple):
    """The first `tokens` of `prompt_tokens` prompt tokens are in the cache.

    `shrunk`: it was more since the last take. `followed`: False when nothing is known any more.
    `points` as of `Event`.
    """

    tokens: int
    prompt_tokens: int
    shrunk: bool = False
    followed: bool = True
    points: Points | None = None


_UNFOLLOWED = Mark(0, 0, followed=False)


class Ledger:
    """Newest number per request, coalesced until the reporter takes it.

    `set`, `unfollow` and `clear` may be called from any thread and hold the lock for a few dict
    operations. `take` and `snapshot` belong to one reading thread. Beyond `max_requests` the
    requests that changed longest ago are no longer followed. When nobody takes for so long that
    changes are dropped, `lost` is set and only a snapshot tells the truth.
    """

    def __init__(self, max_requests: int = MAX_REQUESTS) -> None:
        if max_requests < 1:
            raise ValueError(f"max_requests must be at least 1, got {max_requests}")
        self.max_requests = max_requests
        self.on_change: Callable[[], None] = _nothing
        """Called after a change, on the thread that made it; the reporter sets it to `wake`."""
        self.dropped = 0
        """Requests no longer followed because the ledger was full."""
        self.lost = False
        """Changes were dropped: take a snapshot."""
        self._lock = threading.Lock()
        self._marks: OrderedDict[str, Mark] = OrderedDict()
        self._reported: OrderedDict[str, Mark] = OrderedDict()
        self._cleared = False

    def set(self, request: str, tokens: int, prompt_tokens: int) -> None:
        """Note that the first `tokens` tokens of `request` are cached (0: none)."""
        self._mark(request, Mark(tokens, prompt_tokens))
        self.on_change()

    def unfollow(self, request: str) -> None:
        """Note that what is cached of `request` is unknown from now on."""
        self._mark(request, _UNFOLLOWED)
        self.on_change()

    def clear(self) -> None:
        """Note that the whole cache was reset."""
        self._clear_marks()
        self.on_change()

    def forget(self) -> None:
        """Drop everything, for a forked child: it holds nothing until it says so."""
        self._lock = threading.Lock()
        self._marks = OrderedDict()
        self._reported = OrderedDict()
        self._cleared = self.lost = False

    def settle(self) -> None:
        """Work off what the engine handed over, on the reading thread; `take` does so, too.

        The reporter calls it while the index does not answer, so that nothing piles up.
        """

    def take(self) -> list[Event]:
        """The changes since the last `take`, newest number per request, in order of change."""
        with self._lock:
            marks, self._marks = self._marks, OrderedDict()
            cleared, self._cleared = self._cleared, False
        events: list[Event] = []
        if cleared:
            self._reported.clear()
            events.append(Event("cleared"))
        for request, mark in marks.items():
            event = self._report(request, mark)
            if event is not None:
                events.append(event)
        while len(self._reported) > self.max_requests:
            self.dropped += 1
            events.append(Event("unfollowed", self._reported.popitem(last=False)[0]))
        return events

    def snapshot(self) -> list[Event]:
        """The complete state; changes not yet taken are in it and are not reported again."""
        self.lost = False
        self.take()
        return [
            Event("cached", request, mark.tokens, mark.prompt_tokens, mark.points)
            for request, mark in self._reported.items()
        ]

    def _mark(self, request: str, mark: Mark) -> None:
        with self._lock:
            before = self._marks.pop(request, None)
            if before is not None and (before.shrunk or mark.tokens < before.tokens):
                mark = mark._replace(shrunk=True)
            self._marks[request] = mark
            if len(self._marks) > 4 * self.max_requests:
                self._shed()

    def _shed(self) -> None:
        # What a snapshot says by leaving it out need not be kept.
        self.lost = True
        others = [
            request
            for request, mark in self._marks.items()
            if mark.tokens and request not in self._reported
        ]
        newest = set(others[-2 * self.max_requests :])
        self.dropped += len(others) - len(newest)
        self._marks = OrderedDict(
            (request, mark)
            for request, mark in self._marks.items()
            if request in newest or request in self._reported
        )

    def _clear_marks(self) -> None:
        with self._lock:
            self._marks.clear()
            self._cleared = True
            self.lost = False

    def _report(self, request: str, mark: Mark) -> Event | None:
        old = self._reported.pop(request, None)
        if not mark.followed:
            return Event("unfollowed", request)
        new = mark._replace(shrunk=False)
        if mark.tokens > 0:
            self._reported[request] = new
        if new == old and not mark.shrunk:
            return None
        less = mark.shrunk or not mark.tokens or (old is not None and mark.tokens < old.tokens)
        kind = "truncated" if less else "cached"
        return Event(kind, request, mark.tokens, mark.prompt_tokens, mark.points)


def _nothing() -> None:
    return None


def limited(points: Points) -> Points:
    """As many points as are told of one request: the first ones, and the last."""
    return points if len(points) <= _MAX_RANGES else (*points[: _MAX_RANGES - 1], points[-1])
