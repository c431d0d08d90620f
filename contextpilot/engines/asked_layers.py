"""What layers an engine has, asked of itself: its KV events leave out some of what they hold.

Asked anew whenever the engine began anew, for it may have another model then. Who drives it (the
server on its event loop, the library on a thread) brings the way to ask, and calls `ask_if_due`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from contextpilot.engines.base import UNKNOWN_LAYERS, EngineKind, ToldLayers

if TYPE_CHECKING:
    from contextpilot.http.response import Headers

logger = logging.getLogger(__name__)

AGAIN_AFTER_S = 10.0
"""Time after which an engine is asked again that did not say."""
TIMEOUT_S = 10.0
_DENIED = 401, 403


class EngineLayers:
    """Asks one engine, from one thread at a time; any thread may call `known`.

    Args:
        url: the engine's base URL, for people.
        kind: returns what kind of engine it is.
        fetch: `await fetch(headers, method, path)` returns status and body of its answer, and
            raises OSError where none comes.

    Attributes:
        starts: returns how often the engine began anew.
    """

    def __init__(
        self,
        url: str,
        kind: Callable[[], EngineKind],
        fetch: Callable[[Headers, str, str], Awaitable[tuple[int, bytes]]],
    ) -> None:
        self._url = url
        self._kind = kind
        self._fetch = fetch
        self._known: tuple[int, EngineKind, ToldLayers] | None = None
        self._asked_at = float("-inf")
        self._status = 0
        self.starts: Callable[[], int] = lambda: 0

    def known(self) -> ToldLayers:
        """Return what the engine said since it began."""
        known = self._known
        if known is None or known[:2] != (self.starts(), self._kind()):
            return UNKNOWN_LAYERS
        return known[2]

    @property
    def is_settled(self) -> bool:
        """Whether the engine has answered."""
        return self.known() != UNKNOWN_LAYERS and self._status not in _DENIED

    async def ask_if_due(self) -> None:
        """Ask if the engine began anew, is of another kind, or did not say some time ago."""
        if self.known() == UNKNOWN_LAYERS or (self._status != 200 and self._is_due()):
            await self._ask_once(())

    async def ask_with(self, headers: Headers) -> None:
        """Ask with a request's key, where the engine wants one."""
        if self._status in _DENIED and headers and self._is_due():
            await self._ask_once(headers)

    def _is_due(self) -> bool:
        return time.monotonic() - self._asked_at >= AGAIN_AFTER_S

    async def _ask_once(self, headers: Headers) -> None:
        self._asked_at = time.monotonic()
        start, kind = self.starts(), self._kind()
        try:
            answer = kind.told_layers(partial(self._ask, headers))
            self._known = start, kind, await asyncio.wait_for(answer, TIMEOUT_S)
        except (OSError, asyncio.TimeoutError):
            pass  # it is not up: asked again
        except Exception as error:  # it answers nonsense: asked again
            logger.debug("%s: its layers are not known: %r", self._url, error)

    async def _ask(
        self, headers: Headers, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        assert body is None, "only requests without a body are supported"
        self._status, content = await self._fetch(headers, method, path)
        if self._status != 200:
            return self._status, None
        try:
            return self._status, json.loads(content)
        except ValueError:
            return self._status, content.decode(errors="replace")
