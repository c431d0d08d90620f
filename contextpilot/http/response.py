"""One answer of an engine, parsed as its bytes arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import httptools

Headers = Sequence[tuple[bytes, bytes]]

HIGH_WATER_BYTES = 1 << 18
"""Unread bytes of a body above which the connection reads no more."""
_MAX_HEAD_BYTES = 1 << 18
FRAMING_PER_BODY_BYTE = 8
"""May come beside head and body: chunks of one byte have five bytes of framing for each."""
_STATUSES = range(200, 600)
_BODILESS = frozenset((204, 304))
_FRAMING = (b"content-length", b"transfer-encoding")
_READ_CODINGS = (b"chunked", b"identity")


class BrokenAnswerError(ConnectionError):
    """The connection ended before the answer did; `has_begun`: some of the answer came."""

    def __init__(self, message: str, has_begun: bool) -> None:
        super().__init__(message)
        self.has_begun = has_begun


class Answer:
    """The head and the body of an answer, byte for byte.

    Args:
        is_bodiless: the request was HEAD: the head announces a body that does not come.
        pause: called with True when too much is unread, and with False when it was read.

    Attributes:
        status: the status code.
        headers: names and values as they came.
        keeps_alive: whether the connection can carry another request afterwards.
        has_surplus: bytes came behind its end that belong to no answer.
        is_in_head: a head has begun that has not ended.
    """

    def __init__(self, is_bodiless: bool, pause: Callable[[bool], None]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.keeps_alive = not is_bodiless
        self.has_begun = False
        self.is_in_head = False
        self.is_complete = False
        self.has_surplus = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._is_bodiless = is_bodiless
        self._pause = pause
        self._is_paused = False
        self._has_head = False
        self._chunks: deque[bytes] = deque()
        self._fed: list[bytes] = []
        self._num_unread = 0
        self._num_framing_bytes = 0
        self._num_body_bytes = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- reading ---------------------------------------------------------------------------------

    async def head(self) -> None:
        """Wait for the head.

        Raises:
            BrokenAnswerError: the connection ended first.
            TimeoutError: the engine stayed silent.
        """
        while not self._has_head:
            await self._wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body as they come, however they are framed. Raises as `head`."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._num_unread -= len(chunk)
                if self._is_paused and self._num_unread < HIGH_WATER_BYTES // 2:
                    self._is_paused = False
                    self._pause(False)
                yield chunk
            if self.is_complete:
                return
            await self._wait()

    async def read(self) -> bytes:
        """Return the whole body. Raises as `head` does."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    # -- feeding ---------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether nothing comes because too much is unread."""
        return self._is_paused

    def feed(self, data: bytes) -> bool:
        """Take bytes of the connection; return False when it is of no use any more."""
        if self._parser is None:
            return False
        self.has_begun = True
        body_before = self._num_body_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.has_surplus = self.is_complete
            return self.fail(BrokenAnswerError("the engine's answer is not HTTP", True))
        finally:
            self._take_fed()
        self._num_framing_bytes += len(data) - (self._num_body_bytes - body_before)
        allowed = _MAX_HEAD_BYTES + FRAMING_PER_BODY_BYTE * self._num_body_bytes
        if self._num_framing_bytes > allowed and not self.is_complete:
            part = "trailers" if self._has_head else "head"
            return self.fail(BrokenAnswerError(f"the {part} of the answer is too long", True))
        if self._error is not None:
            return False
        if self.is_complete:
            self._drop_parser()
        self._wake()
        return True

    def _take_fed(self) -> None:
        """Take what came at once as one piece: each costs the same, however short it is."""
        piece, self._fed = b"".join(self._fed), []
        if not piece:
            return
        self._chunks.append(piece)
        self._num_unread += len(piece)
        if self._num_unread > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause(True)

    def end(self) -> None:
        """Take the end of the connection, which ends an answer that names no length."""
        is_framed = any(name.lower() in _FRAMING for name, _ in self.headers)
        if self._has_head and not is_framed:
            self.is_complete = True
        elif not self.is_complete and self._error is None:
            text = "the engine closed the connection"
            self._error = BrokenAnswerError(text, self.has_begun)
        self._drop_parser()
        self._wake()

    def fail(self, error: Exception) -> bool:
        """Let whoever reads the answer get an error; returns False."""
        if self._error is None:
            self._error = error
        self._drop_parser()
        self._wake()
        return False

    def _drop_parser(self) -> None:
        """Let the parser go: it holds the answer, and old cycles stay until nobody waits."""
        self._parser = None

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- httptools: what comes behind the end is no part of it ------------------------------------

    def on_message_begin(self) -> None:
        self.has_surplus = self.has_surplus or self.is_complete
        self.is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # a trailer is no header
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        if self.is_complete:
            return
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200 and self.status != 101:
            self.headers = []
            return
        if self.status not in _STATUSES:
            text = f"the engine's status {self.status} cannot be passed on"
            self.fail(BrokenAnswerError(text, True))
            return
        codings = [value for name, value in self.headers if name.lower() == b"transfer-encoding"]
        if len(codings) > 1 or any(one.strip().lower() not in _READ_CODINGS for one in codings):
            self.fail(BrokenAnswerError("the answer has an unsupported transfer coding", True))
            return
        self._has_head = True
        self.is_complete = self._is_bodiless
        if self.status in _BODILESS:
            self.headers = [pair for pair in self.headers if pair[0].lower() != b"content-length"]

    def on_body(self, chunk: bytes) -> None:
        if self.is_complete:
            return
        self._num_body_bytes += len(chunk)
        self._fed.append(chunk)

    def on_message_complete(self) -> None:
        if self._has_head and self._parser is not None and not self.is_complete:
            self.is_complete = True
            self.keeps_alive = self.keeps_alive and self._parser.should_keep_alive()
