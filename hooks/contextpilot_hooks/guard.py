"""The breaker around our own steps inside an engine.

A wrapper tests `guard.active` (one attribute), runs our step in `try`, and hands an exception to
`guard.failed(error)`. Each distinct failure is logged once at DEBUG; after `limit` failures the
guard trips: one WARNING, `active` turns False for good, and the callbacks given to `on_trip` run.
Only `Exception` is ever caught: KeyboardInterrupt and SystemExit belong to the engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("contextpilot.hooks")


class Guard:
    """Counts the errors of one attachment and switches it off after `limit` of them."""

    __slots__ = ("_on_failure", "_on_trip", "_seen", "active", "errors", "limit", "name")

    def __init__(self, name: str, limit: int = 5) -> None:
        self.name = name
        self.limit = limit
        self.active = True
        self.errors = 0
        self._seen: set[str] = set()
        self._on_failure: list[Callable[[], None]] = []
        self._on_trip: list[Callable[[], None]] = []

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Run `callback` after each failure, for example to have the state read anew."""
        self._on_failure.append(callback)

    def on_trip(self, callback: Callable[[], None]) -> None:
        """Run `callback` once, when the guard switches off."""
        self._on_trip.append(callback)

    def failed(self, error: Exception) -> None:
        """Count `error`; trip at the limit. Never raises."""
        self.errors += 1
        description = f"{type(error).__name__}: {error}"
        if description not in self._seen and len(self._seen) < 32:
            self._seen.add(description)
            logger.debug("%s: %s", self.name, description, exc_info=error)
        self._run(self._on_failure)
        if self.errors >= self.limit:
            self.trip(f"{self.errors} errors, the last: {description}")

    def trip(self, reason: str) -> None:
        """Switch off for good, with one WARNING. Later calls do nothing. Never raises."""
        if not self.active:
            return
        self.active = False
        logger.warning(
            "contextpilot: %s: switched off (%s); the engine continues without it",
            self.name,
            reason,
        )
        self._run(self._on_trip)

    def _run(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                logger.debug("%s: callback failed: %r", self.name, error, exc_info=error)
