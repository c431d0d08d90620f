"""Passes an engine's answer on as it comes, and stops the engine when the client goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Receive, Send

from contextpilot.engines.usage import Usage, UsageReader, Written
from contextpilot.http.pooled import UpstreamError, forwarded_headers
from contextpilot.http.response import Answer, BrokenAnswerError, Headers
from contextpilot.server.proxy.prompt_read import ReadingSigns

logger = logging.getLogger(__name__)

_RESULT = b"x-contextpilot-result"
_SHOWN_AS_TEXT = (
    *(b"application/json", b"application/x-ndjson", b"application/octet-stream"),
    *(b"text/event-stream", b"text/plain"),
)
"""Types that no browser takes for a page, as is none of `audio/`."""
_SANDBOX = b"content-security-policy", b"sandbox"


class Delivery:
    """One answer on its way to the client; `cut` closes its connection before the answer's end.

    Attributes:
        status: the engine's status; None before it answered.
        first_byte_s, total_s: seconds from the request's arrival; None before.
        has_broken: the engine's answer ended before its end.
    """

    def __init__(self, send: Send, cut: Callable[[], None]) -> None:
        self._send = send
        self._cut = cut
        self._usage = UsageReader()
        self._arrived = time.perf_counter()
        self.status: int | None = None
        self.first_byte_s: float | None = None
        self.total_s: float | None = None
        self.has_broken = False
        self._signs = ReadingSigns()

    @property
    def has_begun(self) -> bool:
        """Whether the client got the head of an answer."""
        return self.status is not None

    @property
    def usage(self) -> Usage:
        """The token counts that the answer told."""
        return self._usage.result()

    @property
    def written(self) -> Written | None:
        """What the answer told of the prompt's writing into a cache."""
        return self._usage.written()

    @property
    def generated_tokens(self) -> int | None:
        """The tokens of the answer, where it told them."""
        return self._usage.generated()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer of our own."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
        self.total_s = time.perf_counter() - self._arrived

    async def pass_on(
        self,
        response: Answer,
        headers: Headers,
        on_first_byte: Callable[[], None],
        on_reading: Callable[[], None],
    ) -> None:
        """Send the engine's answer, each piece when it comes. A broken answer ends broken.

        The head waits for the first piece: until then, another engine may stand in.

        Args:
            on_reading: called once the answer shows that the engine read the prompt.

        Raises:
            UpstreamError: the answer broke off before its first piece.
        """
        chunks = response.chunks()
        try:
            chunk = await anext(chunks, None)
        except (BrokenAnswerError, TimeoutError) as error:
            status = 504 if isinstance(error, TimeoutError) else 502
            raise UpstreamError(status, str(error), was_sent=True) from None
        self.status = response.status
        self.first_byte_s = time.perf_counter() - self._arrived
        on_first_byte()
        self._look(chunk, on_reading)
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await self._send(start)
        try:
            while chunk is not None:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(chunks, None)
                self._look(chunk, on_reading)
        except (BrokenAnswerError, TimeoutError) as error:
            logger.warning("an engine's answer broke off: %s", type(error).__name__)
            self.has_broken = True
            self._look(None, on_reading)
            self._cut()
        else:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self.total_s = time.perf_counter() - self._arrived

    def _look(self, chunk: bytes | None, on_reading: Callable[[], None]) -> None:
        """Look at a piece of the body before it goes on; None is the end."""
        if chunk is not None:
            self._usage.feed(chunk)
        signs = self._signs
        if signs.shows_reading is None and self.status in range(200, 300):
            signs.feed(chunk)
            if signs.shows_reading:
                on_reading()


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, and cancel it when the client goes; return whether the client went."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return False
        return True
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def answer_headers(
    response: Answer, result: bytes, renamed: dict[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the engine's headers as they go to the client, with the one header that is ours.

    What a browser may take for a page runs nothing: it would be at home with our own pages, and the
    token in them.

    Args:
        renamed: values to put back, for example the request id that the client gave.
    """
    headers = [
        (name.lower(), renamed.get(value, value))
        for name, value in forwarded_headers(response.headers)
        if name.lower() != _RESULT
    ]
    headers.append((_RESULT, result))
    types = [value for name, value in headers if name == b"content-type"]
    if not types or not all(map(_is_shown_as_text, types)):
        headers.append(_SANDBOX)
    return headers


def _is_shown_as_text(content_type: bytes) -> bool:
    """Return whether a browser takes a type for text; of several in one header the last counts."""
    kind = content_type.partition(b";")[0].strip().lower()
    return b"," not in content_type and (kind in _SHOWN_AS_TEXT or kind.startswith(b"audio/"))
