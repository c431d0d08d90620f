"""Fetches what engines say of themselves, with one deadline for the whole answer."""

from __future__ import annotations

import asyncio

from contextpilot.http.pooled import Upstream, UpstreamError
from contextpilot.http.response import Headers

TIMEOUT_S = 5.0
_MAX_BYTES = 4 << 20


class Fetch:
    """A `Get` over connections that are kept. For use within one event loop."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def __call__(
        self, url: str, method: str = "GET", headers: Headers = ()
    ) -> tuple[int, bytes]:
        """Return status and body of a URL; of a long body only the head.

        Raises:
            OSError: nothing answers, or not in HTTP; the system's own error where there is one.
            TimeoutError: not in time.
        """
        try:
            return await asyncio.wait_for(self._read(url, method, headers), TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise TimeoutError(str(error)) from error
        except UpstreamError as error:
            kind = TimeoutError if error.status == 504 else ConnectionError
            fault = error.cause or kind(str(error))
        raise fault  # not within `except`: a cause cannot be caused by what it caused

    async def _read(self, url: str, method: str, headers: Headers) -> tuple[int, bytes]:
        body = bytearray()
        async with self._upstream.open(method, url, headers, b"") as answer:
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > _MAX_BYTES:
                    break
            return answer.status, bytes(body)
