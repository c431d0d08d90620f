"""Request -> how many leading prompt tokens the engine still caches, exact and bounded.

Two threads meet here: the engine's scheduler writes, the reporter reads.

`Ledger` is for an engine that tells the number itself (SGLang: a read-only probe of its tree):

    ledger = Ledger()
    ledger.set("cp-...", tokens=2400, prompt_tokens=2431)     # grown or shrunk; 0: gone
    ledger.clear()                                            # whole cache was reset

`chain.ChainLedger` is for an engine with chained block hashes (vLLM). The scheduler only hands
over lists of keys, once a step; `take` works out, on the reporter's thread, which requests they
touch.

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

MAX_REQUESTS = 4096


class Event(NamedTuple):
    """One change: `kind` is cached, truncated or cleared; numbers are tokens."""

    kind: str
    request: str = ""
    tokens: int = 0
    prompt_tokens: int = 0


class Mark(NamedTuple):
    """The first `tokens` of `prompt_tokens` prompt tokens are in the cache."""

    tokens: int
    prompt_tokens: int


class Ledger:
    """Newest number per request, coalesced until the reporter takes it.

    `set` and `clear` may be called from any thread and hold the lock for a few dict
    operations. `take` and `snapshot` belong to one reading thread. A writer that tracks at most
    `max_requests` requests, and sets those it drops to 0, never overflows the ledger, however long
    nobody takes; otherwise the oldest are forgotten and reported as gone.
    """

    def __init__(self, max_requests: int = MAX_REQUESTS) -> None:
        if max_requests < 1:
            raise ValueError(f"max_requests must be at least 1, got {max_requests}")
        self.max_requests = max_requests
        self.on_change: Callable[[], None] = _nothing
        """Called after a change, on the thread that made it; the reporter sets it to `wake`."""
        self.dropped = 0
        """Requests forgotten because the ledger was full."""
        self._lock = threading.Lock()
        self._marks: OrderedDict[str, Mark] = OrderedDict()
        self._reported: OrderedDict[str, Mark] = OrderedDict()
        self._cleared = False
        self._overflow = False

    def set(self, request: str, tokens: int, prompt_tokens: int) -> None:
        """Note that the first `tokens` tokens of `request` are cached (0: none)."""
        self._mark(request, Mark(tokens, prompt_tokens))
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
        self._cleared = self._overflow = False

    def settle(self) -> None:
        """Work off what the engine handed over, on the reading thread; `take` does so, too.

        The reporter calls it while the index does not answer, so that nothing piles up.
        """

    def take(self) -> list[Event]:
        """The changes since the last `take`, newest number per request, in order of change."""
        with self._lock:
            marks, self._marks = self._marks, OrderedDict()
            cleared, self._cleared = self._cleared, False
            overflow, self._overflow = self._overflow, False
        events: list[Event] = []
        if cleared:
            self._reported.clear()
            events.append(Event("cleared"))
        if overflow:
            lost = [request for request in self._reported if request not in marks]
            events.extend(self._gone(request) for request in lost)
        for request, mark in marks.items():
            event = self._report(request, mark)
            if event is not None:
                events.append(event)
        while len(self._reported) > self.max_requests:
            self.dropped += 1
            events.append(self._gone(next(iter(self._reported))))
        return events

    def snapshot(self) -> list[Event]:
        """The complete state; changes not yet taken are in it and are not reported again."""
        self.take()
        return [Event("cached", request, *mark) for request, mark in self._reported.items()]

    def _mark(self, request: str, mark: Mark) -> None:
        with self._lock:
            self._marks[request] = mark
            self._marks.move_to_end(request)
            if len(self._marks) > 4 * self.max_requests:
                self._shed()

    def _shed(self) -> None:
        # Gone before the index ever heard of it: nothing to tell.
        kept = OrderedDict(
            (request, mark)
            for request, mark in self._marks.items()
            if mark.tokens or request in self._reported
        )
        while len(kept) > 2 * self.max_requests:
            kept.popitem(last=False)
            self._overflow = True
            self.dropped += 1
        self._marks = kept

    def _clear_marks(self) -> None:
        with self._lock:
            self._marks.clear()
            self._cleared = True
            self._overflow = False

    def _report(self, request: str, mark: Mark) -> Event | None:
        old = self._reported.pop(request, Mark(0, mark.prompt_tokens))
        if mark.tokens > 0:
            self._reported[request] = mark
        if mark == old:
            return None
        if mark.tokens < old.tokens:
            return Event("truncated", request, mark.tokens, mark.prompt_tokens)
        return Event("cached", request, mark.tokens, mark.prompt_tokens)

    def _gone(self, request: str) -> Event:
        mark = self._reported.pop(request)
        return Event("truncated", request, 0, mark.prompt_tokens)


def _nothing() -> None:
    return None
