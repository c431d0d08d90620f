"""Requests of the last hours, kept only if asked for: a cache that comes back empty is warmed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope

from contextpilot.server.proxy.controls import is_control
from contextpilot.server.proxy.outcome import Answered

MAX_BYTES = 256 << 20
"""Bound on the bodies that are kept; the oldest go first."""


class KeptPrompt(NamedTuple):
    """A request without its headers, but for those of ours: no key is kept."""

    at: float
    scope: Scope
    body: bytes
    tenant: str
    namespace: str


class RecentPrompts:
    """Requests that were planned, none for longer than `keep_s` seconds; in memory alone.

    Args:
        keep_s: 0 keeps none.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        keep_s: float,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: deque[KeptPrompt] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, answered: Answered) -> None:
        """Keep a request if it was planned and answered; an observer of the proxy."""
        request, is_planned = answered.request, answered.outcome["status"] == "planned"
        is_kept = self._keep_s and is_planned and answered.status == 200
        if not is_kept or len(request.body) > self._max_bytes:
            return
        known = ("type", "method", "path", "raw_path")
        scope = {name: request.scope[name] for name in known if name in request.scope}
        scope["headers"] = [each for each in request.headers if is_control(each[0])]
        scope["query_string"] = b""
        at, body = self._clock(), request.body
        self._kept.append(KeptPrompt(at, scope, body, request.tenant, request.namespace))
        self._bytes += len(body)
        self.expire()

    def expire(self) -> None:
        """Let go what is too old, or too much; call it now and then."""
        oldest = self._clock() - self._keep_s
        while self._kept and (self._kept[0].at <= oldest or self._bytes > self._max_bytes):
            self._bytes -= len(self._kept.popleft().body)

    def younger_than(self, age_s: float) -> list[KeptPrompt]:
        """Return what came within so many seconds, the oldest first."""
        since = self._clock() - age_s
        return [kept for kept in self._kept if kept.at > since]
