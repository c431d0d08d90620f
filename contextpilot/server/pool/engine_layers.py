"""What layers an engine has, asked of itself: its KV events may leave out some of what they hold.

Asked anew whenever the engine began anew, for it may have another model then.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from contextpilot.engines.base import UNKNOWN_LAYERS, EngineKind
from contextpilot.http.pooled import Upstream, UpstreamError

logger = logging.getLogger(__name__)

EVERY_S = 0.5
AGAIN_AFTER_S = 10.0
"""Time after which an engine is asked again that did not say."""
TIMEOUT_S = 10.0
_MAX_BYTES = 4 << 20
_DENIED = 401, 403

Headers = tuple[tuple[bytes, bytes], ...]


class EngineLayers:
    """Asks one engine, on one event loop; any thread may call `doubt`.

    Args:
        url: the engine's base URL.
        kind: returns what kind of engine it is.

    Attributes:
        starts: returns how often the engine began anew.
    """

    def __init__(self, url: str, kind: Callable[[], EngineKind], upstream: Upstream) -> None:
        self._url = url
        self._kind = kind
        self._upstream = upstream
        self._known: tuple[int, EngineKind, str] | None = None
        self._asked_at = float("-inf")
        self._status = 0
        self.starts: Callable[[], int] = lambda: 0

    def doubt(self) -> str:
        """Return why events that name no layers must not be believed; "" where they may."""
        known = self._known
        if known is None or known[:2] != (self.starts(), self._kind()):
            return UNKNOWN_LAYERS
        return known[2]

    @property
    def is_settled(self) -> bool:
        """Whether the engine has answered."""
        return self.doubt() != UNKNOWN_LAYERS and self._status not in _DENIED

    async def keep_asking(self) -> None:
        """Ask whenever the engine began anew, or is of another kind; for ever."""
        while True:
            doubt = self.doubt()
            if doubt == UNKNOWN_LAYERS or (doubt and self._status != 200 and self._is_due()):
                await self._ask_once(())
            await asyncio.sleep(EVERY_S)

    async def ask_with(self, headers: Headers) -> None:
        """Ask with a request's key, where the engine wants one."""
        if self._status in _DENIED and headers and self._is_due():
            await self._ask_once(headers)

    def _is_due(self) -> bool:
        return asyncio.get_running_loop().time() - self._asked_at >= AGAIN_AFTER_S

    async def _ask_once(self, headers: Headers) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        start, kind = self.starts(), self._kind()
        try:
            answer = kind.layers_refusal(partial(self._ask, headers))
            self._known = start, kind, await asyncio.wait_for(answer, TIMEOUT_S)
        except Exception as error:  # it is not up, or answers nonsense: asked again
            if not isinstance(error, UpstreamError | asyncio.TimeoutError):
                logger.debug("%s: its layers are not known: %r", self._url, error)

    async def _ask(
        self, headers: Headers, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        assert body is None, "only requests without a body are supported"
        content = bytearray()
        async with self._upstream.open(method, self._url + path, headers, b"") as answer:
            async for chunk in answer.chunks():
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise ValueError("too long")
        self._status = answer.status
        return answer.status, json.loads(content) if answer.status == 200 else None
