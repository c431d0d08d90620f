"""Reads requests when it is their turn: who would wait for too long goes on as it came.

Planning is what the server can do without: before it refuses anybody, it plans less.
"""

from __future__ import annotations

from functools import partial

from starlette.types import Scope

from contextpilot.server.offload import (
    LARGE_BYTES,
    LateError,
    Turnstile,
    offload,
    offload_reading,
)
from contextpilot.server.protocol import waited_s
from contextpilot.server.proxy.incoming import Incoming, RequestReader

_SHORT_BYTES = 2 << 10
"""A body up to this takes less to look through than a turn of its own."""


class TimelyReader:
    """Has requests read: a large one on a thread, others one in each round of the event loop.

    Args:
        max_wait_s: a request that waited so long for its turn is read without a search.
    """

    def __init__(self, reader: RequestReader, max_wait_s: float) -> None:
        self._reader = reader
        self._max_wait_s = max_wait_s
        self._turns = Turnstile()

    async def read(self, scope: Scope, body: bytes) -> Incoming:
        """Return a request, read as far as it can be. Raises as `RequestReader.read` does."""
        if len(body) < _SHORT_BYTES:
            return self._read_now(scope, body)
        if len(body) < LARGE_BYTES:
            return await self._turns.run(self._read_now, scope, body)
        try:
            return await offload_reading(partial(self._read_now, scope, body), self._max_wait_s)
        except LateError:
            return await offload(True, self._reader.read, scope, body, is_late=True)

    def _read_now(self, scope: Scope, body: bytes) -> Incoming:
        return self._reader.read(scope, body, is_late=waited_s(scope) > self._max_wait_s)
