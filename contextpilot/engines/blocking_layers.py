"""Asks an engine what layers it has from a thread that may wait, and of what kind it is."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from contextpilot.engines.asked_layers import TIMEOUT_S, EngineLayers
from contextpilot.engines.base import EngineKind
from contextpilot.engines.detect import EngineKinds
from contextpilot.engines.registry import OTHER

if TYPE_CHECKING:
    from contextpilot.http.blocking import BlockingHttp
    from contextpilot.http.response import Headers


class BlockingLayers(EngineLayers):
    """What one engine says of its layers, asked over a client that waits."""

    def __init__(self, http: BlockingHttp) -> None:
        super().__init__(http.shown_url, lambda: self._found, partial(_fetch, http))
        self._found: EngineKind = OTHER
        self._get = partial(_fetch, http, (), "GET")

    def ask(self) -> None:
        """Ask where it is not known, or the engine began anew."""
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        if not self.is_settled:
            self._found = await EngineKinds(self._get).kind("")
        await self.ask_if_due()


async def _fetch(http: BlockingHttp, headers: Headers, method: str, path: str) -> tuple[int, bytes]:
    sent = {name.decode(): value.decode() for name, value in headers}
    reply = http.call(method, path, b"", TIMEOUT_S, sent)
    return reply.status, reply.body
